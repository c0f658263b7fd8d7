//! A PE file that says nothing but arguments of the kernel: what systemd-stub calls an addon.
//!
//! The firmware loads it as it loads any program, and never starts it; systemd-stub reads its
//! section `.cmdline` from memory. So it has to be a program that can be loaded: a header, a
//! `.text` that only returns an error, and the section.

/// Where the sections begin in the file, and the step of their sizes.
const FILE_STEP: u32 = 512;
/// Where they begin in memory, and the step of their places.
const MEMORY_STEP: u32 = 4096;
/// The headers, with room for the names of sections.
const HEADER_BYTES: u32 = 512;
/// An addon is a page or two. The kernel takes no longer command line anyway.
pub const MAX_BYTES: u64 = 1 << 20;

/// Where the header of PE begins: right behind that of DOS.
const PE_OFFSET: u32 = 64;
const MACHINE_X86_64: u16 = 0x8664;
/// Executable, no line numbers, no symbols, any address, no debugging.
const CHARACTERISTICS: u16 = 0x22e;
const PE32_PLUS: u16 = 0x20b;
/// High entropy addresses, dynamic base, no execution of data.
const DLL_CHARACTERISTICS: u16 = 0x160;
const EFI_APPLICATION: u16 = 10;
const OPTIONAL_HEADER_BYTES: u16 = 240;
const DATA_DIRECTORIES: u32 = 16;
const CODE: u32 = 0x6000_0020;
const DATA: u32 = 0x4000_0040;

/// `mov rax, EFI_UNSUPPORTED; ret`
const TEXT: [u8; 11] = [0x48, 0xb8, 3, 0, 0, 0, 0, 0, 0, 0x80, 0xc3];

/// An addon with these arguments. The same arguments make the same bytes.
pub fn write(cmdline: &str) -> Vec<u8> {
    let length = u32::try_from(cmdline.len()).expect("a command line is short");
    let text = Section { name: *b".text\0\0\0", flags: CODE, at: MEMORY_STEP, data: &TEXT };
    let section =
        Section { name: *b".cmdline", flags: DATA, at: 2 * MEMORY_STEP, data: cmdline.as_bytes() };
    let sections = [text, section];
    let mut file = headers(&sections, 2 * MEMORY_STEP + length.next_multiple_of(MEMORY_STEP));
    let mut offset = HEADER_BYTES;
    for section in &sections {
        file.extend_from_slice(&section.header(offset));
        offset += section.size().next_multiple_of(FILE_STEP);
    }
    file.resize(HEADER_BYTES as usize, 0);
    for section in &sections {
        file.extend_from_slice(section.data);
        file.resize(file.len().next_multiple_of(FILE_STEP as usize), 0);
    }
    file
}

/// The arguments that an addon has.
pub fn read(file: &[u8]) -> Option<String> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(file.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?));
    let pe = usize::try_from(u32_at(60)?).ok()?;
    if file.get(..2)? != b"MZ" || file.get(pe..pe.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let count = usize::from(u16_at(pe + 6)?);
    let sections = pe + 24 + usize::from(u16_at(pe + 20)?);
    for header in (0..count).map(|number| sections + 40 * number) {
        if file.get(header..header + 8)? == b".cmdline" {
            let length = u32_at(header + 8)?.min(u32_at(header + 16)?) as usize;
            let start = u32_at(header + 20)? as usize;
            let bytes = file.get(start..start.checked_add(length)?)?;
            let text = std::str::from_utf8(bytes).ok()?;
            return Some(text.trim_end_matches('\0').to_owned());
        }
    }
    None
}

struct Section<'a> {
    name: [u8; 8],
    flags: u32,
    /// Where it is in memory.
    at: u32,
    data: &'a [u8],
}

impl Section<'_> {
    fn size(&self) -> u32 {
        u32::try_from(self.data.len()).expect("a section is short")
    }

    fn header(&self, offset: u32) -> Vec<u8> {
        let mut bytes = Bytes(self.name.to_vec());
        bytes.u32(self.size()).u32(self.at).u32(self.size().next_multiple_of(FILE_STEP));
        bytes.u32(offset).zeros(12).u32(self.flags);
        bytes.0
    }
}

fn headers(sections: &[Section<'_>], memory_bytes: u32) -> Vec<u8> {
    let count = u16::try_from(sections.len()).expect("there are two");
    let mut bytes = Bytes(b"MZ".to_vec());
    bytes.zeros(58).u32(PE_OFFSET);
    // The header of COFF; the time in it is none, so that the same input gives the same bytes.
    bytes.0.extend_from_slice(b"PE\0\0");
    bytes.u16(MACHINE_X86_64).u16(count).zeros(12).u16(OPTIONAL_HEADER_BYTES).u16(CHARACTERISTICS);
    // What is called optional: the linker, the sizes, the entry, the base of the code and the image.
    bytes.u16(PE32_PLUS).zeros(2).u32(FILE_STEP).u32(FILE_STEP).u32(0);
    bytes.u32(MEMORY_STEP).u32(MEMORY_STEP).u64(0x1_0000_0000);
    bytes.u32(MEMORY_STEP).u32(FILE_STEP);
    // Versions: of the system, of the image, of the subsystem (1.1, as all EFI programs say).
    bytes.zeros(8).u16(1).u16(1).u32(0);
    bytes.u32(memory_bytes).u32(HEADER_BYTES).u32(0).u16(EFI_APPLICATION).u16(DLL_CHARACTERISTICS);
    // Stack and heap, reserved and used at once.
    bytes.u64(1 << 20).u64(4096).u64(1 << 20).u64(4096).u32(0);
    bytes.u32(DATA_DIRECTORIES).zeros(8 * DATA_DIRECTORIES as usize);
    bytes.0
}

/// Little-endian numbers, one behind the other.
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(&mut self, number: u16) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn zeros(&mut self, count: usize) -> &mut Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }
}
