//! How QEMU's `-netdev stream` puts frames on a socket: four bytes of length, big-endian, then the
//! frame.

use std::io::{self, Read, Write};

/// The longest frame that QEMU itself takes (its NET_BUFSIZE).
const LONGEST: usize = 4096 + 65536;

/// The next frame; none when the peer is gone.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        let what = format!("a frame of {length} bytes; at most {LONGEST} are possible");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame)?;
    Ok(Some(frame))
}

/// Writes one frame, at once.
pub(super) fn write(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).expect("a frame is short");
    to.write_all(&[&length.to_be_bytes(), frame].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_its_length_in_big_endian_and_itself() {
        let mut wire = Vec::new();
        write(&mut wire, b"abc").expect("memory");
        assert_eq!(wire, b"\0\0\0\x03abc");
    }

    #[test]
    fn what_was_written_is_read_and_then_comes_the_end() {
        let mut wire = Vec::new();
        for frame in [&b""[..], b"one", &[7; LONGEST]] {
            write(&mut wire, frame).expect("memory");
        }
        let mut wire = &wire[..];
        for length in [0, 3, LONGEST] {
            assert_eq!(read(&mut wire).expect("a frame").expect("not the end").len(), length);
        }
        assert!(read(&mut wire).expect("the end").is_none());
    }

    #[test]
    fn a_frame_that_is_cut_short_or_absurd_is_an_error() {
        assert!(read(&mut &b"\0\0\0\x05abc"[..]).is_err());
        assert!(read(&mut &b"\xff\xff\xff\xffabc"[..]).is_err());
    }
}
