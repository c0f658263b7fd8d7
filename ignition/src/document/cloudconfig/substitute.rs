//! `$private_ipv4` and its three sisters: addresses of the machine, put into the text.

/// The addresses of a machine, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// `$public_ipv4`.
    pub public_ipv4: Option<String>,
    /// `$private_ipv4`.
    pub private_ipv4: Option<String>,
    /// `$public_ipv6`.
    pub public_ipv6: Option<String>,
    /// `$private_ipv6`.
    pub private_ipv6: Option<String>,
}

impl Addresses {
    /// Each by the name that a text calls it by, without the `$`.
    pub fn named(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("public_ipv4", self.public_ipv4.as_deref()),
            ("private_ipv4", self.private_ipv4.as_deref()),
            ("public_ipv6", self.public_ipv6.as_deref()),
            ("private_ipv6", self.private_ipv6.as_deref()),
        ]
    }
}

/// Puts addresses in the place of their names; what is not known is empty. `\$private_ipv4` stays,
/// without the backslash.
pub fn substitute(text: &str, addresses: &Addresses) -> String {
    let address = |name| {
        let found = addresses.named().into_iter().find(|(known, _)| *known == name);
        found.and_then(|(_, address)| address).unwrap_or_default().to_owned()
    };
    replace(text, |name, _| address(name))
}

/// Leaves the names of addresses as they are, but takes the backslashes before those that were to
/// stay; says of each other name where it is now.
pub(super) fn leave(text: &str) -> (String, Vec<(&'static str, usize)>) {
    let mut left = Vec::new();
    let text = replace(text, |name, at| {
        left.push((name, at));
        format!("${name}")
    });
    (text, left)
}

/// Replaces the names; `with` also learns where its text will be.
fn replace(text: &str, mut with: impl FnMut(&'static str, usize) -> String) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, behind) = (&rest[..at], &rest[at + 1..]);
        let names = Addresses::default().named().map(|(name, _)| name);
        let Some(name) = names.into_iter().find(|name| behind.starts_with(name)) else {
            done.push_str(&rest[..=at]);
            rest = behind;
            continue;
        };
        match before.strip_suffix('\\') {
            Some(before) => {
                done.push_str(before);
                done.push('$');
                done.push_str(name);
            }
            None => {
                done.push_str(before);
                let replacement = with(name, done.len());
                done.push_str(&replacement);
            }
        }
        rest = &behind[name.len()..];
    }
    done.push_str(rest);
    done
}
