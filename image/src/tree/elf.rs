//! What a program needs before it can start: its loader and its shared libraries, as its ELF
//! headers say; or the interpreter, if it is a script.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use object::{
    Endianness,
    elf::{
        DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_STRSZ, DT_STRTAB, DynamicTag, EM_X86_64,
        ET_DYN, ET_EXEC, FileHeader64, NoteType, PT_DYNAMIC, PT_INTERP, PT_LOAD,
    },
    read::{
        ReadCache, ReadRef,
        elf::{Dyn as _, FileHeader as _, ProgramHeader as _},
    },
};
use serde::Deserialize;

/// What a file needs.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Needs {
    /// Programs that start this one: the ELF loader, or what follows `#!`.
    pub(crate) interpreters: Vec<String>,
    /// Names of shared libraries.
    pub(crate) libraries: Vec<String>,
    /// Directories that the file itself wants searched, with `$ORIGIN` as written.
    pub(crate) search: Vec<String>,
    /// Libraries that it loads while it runs.
    pub(crate) loads: Vec<Loads>,
}

/// A library that a program opens when it first needs it, as a note in the file says (the ELF
/// dlopen metadata of the UAPI group). No other header names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Loads {
    /// Any of them will do.
    #[serde(default)]
    pub(crate) soname: Vec<String>,
    /// `required`, `recommended` or `suggested`.
    #[serde(default)]
    pub(crate) priority: String,
    /// What for.
    #[serde(default)]
    pub(crate) description: String,
}

/// Owner and type of those notes.
const LOADS_NOTE: (&[u8], NoteType) = (b"FDO", NoteType(0x407c_0c0a));

/// Reads the needs of the file at `path`; none if it is neither a program of this architecture
/// nor a script.
pub(crate) fn needs(path: &Path) -> io::Result<Option<Needs>> {
    let mut file = File::open(path)?;
    let mut start = [0; 256];
    let read = read_start(&mut file, &mut start)?;
    if start[..read].starts_with(b"#!") {
        return Ok(Some(script(&start[2..read])));
    }
    if !start[..read].starts_with(b"\x7fELF") {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(0))?;
    let cache = ReadCache::new(file);
    // A damaged program is no reason to stop: it may be test data, and nothing can start it.
    Ok(elf(&cache).ok().flatten())
}

fn read_start(file: &mut File, start: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < start.len() {
        match file.read(&mut start[read..])? {
            0 => break,
            some => read += some,
        }
    }
    Ok(read)
}

fn script(start: &[u8]) -> Needs {
    let line = start.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_ascii_whitespace();
    let mut interpreters: Vec<String> = words.next().map(str::to_owned).into_iter().collect();
    // `env` starts the first word that is neither an option nor a variable.
    if interpreters.first().is_some_and(|program| program.ends_with("/env")) {
        let program = words.find(|word| !word.starts_with('-') && !word.contains('='));
        interpreters.extend(program.map(str::to_owned));
    }
    Needs { interpreters, ..Needs::default() }
}

fn elf<'data, R: ReadRef<'data>>(data: R) -> object::Result<Option<Needs>> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let runs = [ET_EXEC, ET_DYN].contains(&header.e_type(endian));
    if header.e_machine(endian) != EM_X86_64 || !runs {
        return Ok(None);
    }
    let segments = header.program_headers(endian, data)?;
    let mut needs = Needs::default();
    for segment in segments.iter().filter(|segment| segment.p_type(endian) == PT_INTERP) {
        let bytes = segment.data(endian, data).unwrap_or_default();
        let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        needs.interpreters.push(String::from_utf8_lossy(bytes).into_owned());
    }
    for segment in segments {
        let Some(mut notes) = segment.notes(endian, data)? else { continue };
        while let Some(note) = notes.next()? {
            if (note.name(), note.n_type(endian)) == LOADS_NOTE {
                let text = note.desc().split(|&byte| byte == 0).next().unwrap_or_default();
                needs.loads.extend(serde_json::from_slice::<Vec<Loads>>(text).unwrap_or_default());
            }
        }
    }
    let Some(dynamic) = segments.iter().find(|segment| segment.p_type(endian) == PT_DYNAMIC) else {
        return Ok(Some(needs));
    };
    let entries = dynamic.dynamic(endian, data)?.unwrap_or_default();
    let value = |tag: DynamicTag| {
        let entry = entries.iter().find(|entry| entry.d_tag(endian) == tag);
        entry.map(|entry| entry.d_val(endian))
    };
    let (Some(address), Some(size)) = (value(DT_STRTAB), value(DT_STRSZ)) else {
        return Ok(Some(needs));
    };
    let load = segments.iter().find(|segment| {
        let start = segment.p_vaddr(endian);
        segment.p_type(endian) == PT_LOAD
            && (start..start + segment.p_filesz(endian)).contains(&address)
    });
    let Some(load) = load else { return Ok(Some(needs)) };
    let at = load.p_offset(endian) + (address - load.p_vaddr(endian));
    let strings = data.read_bytes_at(at, size).unwrap_or_default();
    let text = |offset: u64| {
        let bytes =
            strings.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    for entry in entries.iter().take_while(|entry| entry.d_tag(endian) != DT_NULL) {
        match entry.d_tag(endian) {
            DT_NEEDED => needs.libraries.push(text(entry.d_val(endian))),
            DT_RPATH | DT_RUNPATH => {
                let dirs = text(entry.d_val(endian));
                needs.search.extend(dirs.split(':').map(str::to_owned));
            }
            _ => {}
        }
    }
    Ok(Some(needs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_test_needs_the_loader_and_the_c_library() {
        let needs = needs(&std::env::current_exe().unwrap()).unwrap().unwrap();
        assert_eq!(needs.interpreters, ["/lib64/ld-linux-x86-64.so.2"]);
        assert!(needs.libraries.contains(&"libc.so.6".to_owned()), "{needs:?}");
    }

    #[test]
    fn a_script_needs_its_interpreter_and_what_env_starts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for (text, expected) in [
            ("#!/bin/sh -e\nexit", vec!["/bin/sh"]),
            ("#! /usr/bin/env -S A=1 python3 -u\n", vec!["/usr/bin/env", "python3"]),
            ("#!/usr/bin/perl", vec!["/usr/bin/perl"]),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(needs(&path).unwrap().unwrap().interpreters, expected);
        }
    }

    #[test]
    fn other_files_need_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for bytes in [&b""[..], b"#", b"\x7fELF", b"text"] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(needs(&path).unwrap(), None, "{bytes:?}");
        }
    }
}
