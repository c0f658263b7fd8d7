//! What no name and no field of passwd may be.

use super::change::given;
use crate::{
    document::{config::User, is_hash},
    files::Refused,
};

/// The rules of shadow-utils.
pub(super) fn check_name(at: &str, name: &str) -> Result<(), Refused> {
    let is_start = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let stem = name.strip_suffix('$').unwrap_or(name);
    let is_good = stem.starts_with(is_start)
        && stem.chars().all(|c| is_start(c) || c == '-')
        && !stem.chars().all(|c| c.is_ascii_digit())
        && ![".", ".."].contains(&name)
        && name.len() <= 32;
    if is_good {
        return Ok(());
    }
    Err(Refused::new(
        at,
        format!("`{}` cannot be the name of a user or group", name.escape_debug()),
    )
    .hint("letters, digits, `_`, `.` and, not at the start, `-`; at most 32, not all digits"))
}

pub(super) fn check_hash(at: &str, hash: Option<&str>) -> Result<(), Refused> {
    match hash {
        Some(hash) if !is_hash(hash) => Err(Refused::new(at, "this is not the hash of a password")
            .hint("make one with `mkpasswd` or `openssl passwd -6`; `*` is no password at all")),
        _ => Ok(()),
    }
}

/// A field with a `:` or a line break in it would be more than one.
pub(super) fn check_fields(at: &str, user: &User) -> Result<(), Refused> {
    let fields = [("gecos", &user.gecos), ("homeDir", &user.home_dir), ("shell", &user.shell)];
    for (key, value) in fields {
        let Some(value) = given(value) else { continue };
        let at = format!("{at}.{key}");
        if value.contains([':', '\n', '\r', '\0']) {
            return Err(Refused::new(at, "a `:` or a line break cannot be in it"));
        }
        if key != "gecos" && !value.starts_with('/') {
            return Err(Refused::new(at, format!("`{value}` is not an absolute path")));
        }
    }
    for (index, key) in user.ssh_authorized_keys.iter().enumerate() {
        if key.contains('\0') {
            let at = format!("{at}.sshAuthorizedKeys.{index}");
            return Err(Refused::new(at, "a zero byte cannot be in it"));
        }
    }
    Ok(())
}
