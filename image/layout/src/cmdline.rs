//! The kernel command line's words that `/init` understands (`kernel-command-line(7)` syntax).

/// `usrhash=HEX`: the verity root hash of the `/usr` to boot. Required.
pub const USRHASH: &str = "usrhash";
/// `pithos.on-failure=reboot|halt|shell`: what `/init` does when a step fails.
pub const ON_FAILURE: &str = "pithos.on-failure";
/// `pithos.device-timeout=SECONDS`: how long `/init` waits for the disk.
pub const DEVICE_TIMEOUT: &str = "pithos.device-timeout";

/// The values given for `key`, in order. Quotes group words with spaces, as in the kernel.
pub fn values<'a>(cmdline: &'a str, key: &str) -> Vec<&'a str> {
    words(cmdline)
        .into_iter()
        .filter_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        .map(|value| value.trim_matches('"'))
        .collect()
}

/// Its words: blanks between quotes are part of one.
pub fn words(cmdline: &str) -> Vec<&str> {
    let mut quoted = false;
    cmdline
        .split(|c: char| {
            quoted ^= c == '"';
            c.is_ascii_whitespace() && !quoted
        })
        .filter(|word| !word.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_in_order_and_only_of_the_whole_key() {
        let line = "quiet usrhash=aa xusrhash=bb usrhash=\"c c\" usrhash\n";
        assert_eq!(values(line, USRHASH), ["aa", "c c"]);
        assert!(values(line, ON_FAILURE).is_empty());
    }
}
