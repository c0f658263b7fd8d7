//! Numbers in bytes, as disks and archives write them. Reading past the end gives zeros: parsers
//! ask for as many bytes as they need first, and never panic if they were wrong.

/// Little-endian numbers.
#[derive(Clone, Copy)]
pub(super) struct Le<'a>(pub(super) &'a [u8]);

impl Le<'_> {
    pub(super) fn u8(self, at: usize) -> u8 {
        u8::from_le_bytes(array(self.0, at))
    }

    pub(super) fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes(array(self.0, at))
    }

    pub(super) fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(array(self.0, at))
    }

    pub(super) fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(array(self.0, at))
    }
}

/// Big-endian numbers.
#[derive(Clone, Copy)]
pub(super) struct Be<'a>(pub(super) &'a [u8]);

impl Be<'_> {
    pub(super) fn u32(self, at: usize) -> u32 {
        u32::from_be_bytes(array(self.0, at))
    }

    pub(super) fn u64(self, at: usize) -> u64 {
        u64::from_be_bytes(array(self.0, at))
    }
}

/// `N` bytes at `at`, zeros where there are none.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bytes.get(at..).unwrap_or_default()) {
        *to = *from;
    }
    out
}

/// `length` bytes at `at`, fewer at the end.
pub(super) fn part(bytes: &[u8], at: usize, length: usize) -> &[u8] {
    let rest = bytes.get(at..).unwrap_or_default();
    &rest[..length.min(rest.len())]
}

/// Text as it is, other bytes escaped; what follows the first NUL is not shown.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    match str::from_utf8(&bytes[..end]) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes[..end].escape_ascii().to_string(),
    }
}

/// Hexadecimal, without leading zeros.
pub(super) fn hex(number: impl Into<u64>) -> String {
    format!("{:#x}", number.into())
}
