//! What the hash of a password looks like.

/// Whether a text can stand where passwd(5) wants the hash of a password: a hash as crypt(5) has
/// them, one that is locked by a `!`, or something that no password can match (`*`, `!`).
///
/// A password that is not hashed can never match, and would be there for all to read that can read
/// the document. There is no more that could be told apart without asking crypt(3) itself.
pub fn is_hash(text: &str) -> bool {
    if ["*", "!", "!!", "!*"].contains(&text) {
        return true;
    }
    let text = text.trim_start_matches('!');
    let is_salted = |c: char| c.is_ascii_graphic() && !":;*!\\".contains(c);
    if !text.chars().all(is_salted) {
        return false;
    }
    let of_alphabet =
        |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "./".contains(c));
    match text.strip_prefix('$') {
        // $id$parameters$salt$hash, with more or fewer parts in the middle.
        Some(modern) => {
            let mut parts = modern.split('$');
            let id = parts.next().unwrap_or_default();
            let rest: Vec<&str> = parts.collect();
            let last = rest.last().copied().unwrap_or_default();
            let known = !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            match rest.len() {
                // The specification's own examples have one like that: of a kind that nobody knows.
                0 => id.len() > 13,
                1 => false,
                2.. => known && last.len() >= 13,
            }
        }
        None => match text.strip_prefix('_') {
            Some(extended) => extended.len() == 19 && of_alphabet(extended),
            None => text.len() == 13 && of_alphabet(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_and_locks_are_told_from_passwords() {
        for hash in [
            "zJW/EKqqIk44o",
            "_J9..rasmBYk8r9AiWNc",
            "$1$salt$qJH7.N4xYta3aEG/dfqo/0",
            "$2b$10$abcdefghijklmnopqrstuuAbCdEfGhIjKlMnOpQrStUvWxYz01234",
            "$5$rounds=5000$salt$Gcm6FsVtF/Qa77ZKD.iwsJlCVPY0XSMgLJL0Hnww/c1",
            "$6$salt$IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTSuDDl3aCI6WouIL9AjRbLCelDCy.g.",
            "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
            "$gy$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
            "!$1$salt$qJH7.N4xYta3aEG/dfqo/0",
            "$superSecretPasswordHash.",
            "*",
            "!",
            "!!",
        ] {
            assert!(is_hash(hash), "{hash}");
        }
        let passwords =
            ["", "x", "secret", "correct horse", "$ecret", "$6$", "$6$salt$", "a:b", "*a"];
        for password in passwords {
            assert!(!is_hash(password), "{password}");
        }
    }
}
