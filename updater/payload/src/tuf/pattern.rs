//! Patterns of paths in delegations: `*` and `?`, neither of which matches a `/`.

/// Whether `path` matches `pattern`, part by part.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let mut patterns = pattern.split('/');
    let mut parts = path.split('/');
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) => {
                let (pattern, part): (Vec<char>, Vec<char>) =
                    (pattern.chars().collect(), part.chars().collect());
                if !part_matches(&pattern, &part) {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// Goes back to the last `*` only: that is enough, and bounded by the product of both lengths.
fn part_matches(pattern: &[char], part: &[char]) -> bool {
    let (mut at, mut in_pattern) = (0, 0);
    let mut star = None;
    while at < part.len() {
        match pattern.get(in_pattern) {
            Some('*') => {
                star = Some((in_pattern, at));
                in_pattern += 1;
            }
            Some(c) if *c == '?' || *c == part[at] => {
                in_pattern += 1;
                at += 1;
            }
            _ => match star {
                Some((of, from)) => {
                    star = Some((of, from + 1));
                    (in_pattern, at) = (of + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[in_pattern..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stay_within_their_part() {
        for (pattern, path) in [
            ("*", "a"),
            ("*.md", "README.md"),
            ("foo-?.tgz", "foo-1.tgz"),
            ("releases/*/*", "releases/x/y"),
            ("a*b*c", "axxbyybzc"),
            ("", ""),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*", "a/b"),
            ("*.md", "README.MD"),
            ("foo-?.tgz", "foo-10.tgz"),
            ("releases/*/*", "releases/x"),
            ("?", ""),
            ("a*b", "abc"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
        // Many stars do not make it slow.
        assert!(!matches(&"*a".repeat(50), &"a".repeat(49)));
    }
}
