//! Globs over paths: `*`, `?` and `[a-z]` stay within one name, `**` spans any number of names,
//! and `{a,b}` stands for either.

/// A compiled glob.
#[derive(Clone, Debug)]
pub(crate) struct Glob {
    /// One sequence of parts for each way to choose between the braces.
    alternatives: Vec<Vec<Part>>,
}

#[derive(Clone, Debug)]
enum Part {
    /// `**`
    Deep,
    /// A name without wildcards: most of them, and the quickest to compare.
    Literal(String),
    Pattern(Vec<Token>),
}

#[derive(Clone, Debug)]
enum Token {
    Char(char),
    AnyChar,
    AnyRun,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// What is wrong with a glob, and at which character of it (from 0).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadGlob {
    pub(crate) at: usize,
    pub(crate) what: &'static str,
}

impl Glob {
    pub(crate) fn parse(text: &str) -> Result<Self, BadGlob> {
        let chars: Vec<char> = text.chars().collect();
        let alternatives = expand_braces(&chars)?
            .into_iter()
            .map(|path| path.split(|&c| c == '/').map(parse_part).collect())
            .collect::<Result<_, BadGlob>>()
            .map_err(|bad| BadGlob {
                at: chars.iter().position(|&c| c == '[').unwrap_or(0),
                ..bad
            })?;
        Ok(Self { alternatives })
    }

    /// Whether the glob matches the whole of `path`.
    pub(crate) fn matches(&self, path: &str) -> bool {
        self.alternatives.iter().any(|parts| match_parts(parts, Some(path)))
    }
}

/// Every choice of the braces of `text`. They nest.
fn expand_braces(text: &[char]) -> Result<Vec<Vec<char>>, BadGlob> {
    let Some(open) = text.iter().position(|&c| c == '{') else {
        return match text.iter().position(|&c| c == '}') {
            Some(at) => Err(BadGlob { at, what: "`}` without its `{`" }),
            None => Ok(vec![text.to_vec()]),
        };
    };
    let (mut depth, mut start, mut choices) = (0, open + 1, vec![]);
    for (at, c) in text.iter().enumerate().skip(open) {
        match c {
            '{' => depth += 1,
            ',' if depth == 1 => {
                choices.push(&text[start..at]);
                start = at + 1;
            }
            '}' if depth > 1 => depth -= 1,
            '}' => {
                choices.push(&text[start..at]);
                let mut expanded = vec![];
                for choice in choices {
                    let whole = [&text[..open], choice, &text[at + 1..]].concat();
                    expanded.extend(expand_braces(&whole)?);
                }
                return Ok(expanded);
            }
            _ => {}
        }
    }
    Err(BadGlob { at: open, what: "`{` without its `}`" })
}

fn parse_part(part: &[char]) -> Result<Part, BadGlob> {
    if part == ['*', '*'] {
        return Ok(Part::Deep);
    }
    if !part.iter().any(|c| "*?[".contains(*c)) {
        return Ok(Part::Literal(part.iter().collect()));
    }
    let (mut tokens, mut rest) = (vec![], part);
    while let [first, tail @ ..] = rest {
        rest = tail;
        tokens.push(match first {
            '*' => Token::AnyRun,
            '?' => Token::AnyChar,
            '[' => {
                // Right behind the `[`, a `]` is one of the class, as in every shell.
                let close = tail.iter().skip(1).position(|&c| c == ']');
                let close = close.ok_or(BadGlob { at: 0, what: "`[` without its `]`" })? + 1;
                rest = &tail[close + 1..];
                parse_class(&tail[..close])
            }
            &c => Token::Char(c),
        });
    }
    Ok(Part::Pattern(tokens))
}

fn parse_class(mut inside: &[char]) -> Token {
    let negated = matches!(inside, ['!' | '^', ..]);
    inside = &inside[usize::from(negated)..];
    let mut ranges = vec![];
    loop {
        inside = match inside {
            [] => return Token::Class { negated, ranges },
            [low, '-', high, rest @ ..] => {
                ranges.push((*low, *high));
                rest
            }
            [one, rest @ ..] => {
                ranges.push((*one, *one));
                rest
            }
        };
    }
}

/// `path` is none behind its last name.
fn match_parts(parts: &[Part], path: Option<&str>) -> bool {
    let Some((part, parts)) = parts.split_first() else { return path.is_none() };
    let Some(path) = path else { return false };
    let (name, rest) = match path.split_once('/') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    match part {
        Part::Literal(literal) => literal == name && match_parts(parts, rest),
        Part::Pattern(tokens) => match_tokens(tokens, name) && match_parts(parts, rest),
        Part::Deep => {
            // `a/**` is what is below `a`, not `a` itself, so it takes at least one name there;
            // in the middle it may stand for no name at all.
            if parts.is_empty() {
                return true;
            }
            let mut from = Some(path);
            while let Some(path) = from {
                if match_parts(parts, Some(path)) {
                    return true;
                }
                from = path.split_once('/').map(|(_, rest)| rest);
            }
            false
        }
    }
}

fn match_tokens(tokens: &[Token], name: &str) -> bool {
    let Some((token, tokens)) = tokens.split_first() else { return name.is_empty() };
    if let Token::AnyRun = token {
        let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
        return ends.any(|end| match_tokens(tokens, &name[end..]));
    }
    let mut chars = name.chars();
    let Some(c) = chars.next() else { return false };
    let fits = match token {
        Token::Char(expected) => c == *expected,
        Token::AnyChar | Token::AnyRun => true,
        Token::Class { negated, ranges } => {
            ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
        }
    };
    fits && match_tokens(tokens, chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, path: &str) -> bool {
        Glob::parse(glob).unwrap().matches(path)
    }

    #[test]
    fn a_star_stays_within_one_name() {
        assert!(matches("/usr/*/doc", "/usr/share/doc"));
        assert!(!matches("/usr/*", "/usr/share/doc"));
        assert!(matches("lib*.so.?", "libc.so.6"));
        assert!(!matches("lib*.so.?", "libc.so.10"));
        assert!(matches("*", "é"));
    }

    #[test]
    fn two_stars_span_names_and_at_the_end_at_least_one() {
        assert!(matches("/usr/**/x", "/usr/x"));
        assert!(matches("/usr/**/x", "/usr/a/b/x"));
        assert!(matches("/usr/**", "/usr/a/b"));
        assert!(!matches("/usr/**", "/usr"));
        assert!(!matches("/usr/**/x", "/usr/a/xx"));
    }

    #[test]
    fn braces_and_classes_are_choices() {
        assert!(matches("/{usr,etc}/a{1,2{3,4}}", "/etc/a24"));
        assert!(!matches("/{usr,etc}/a{1,2{3,4}}", "/etc/a2"));
        assert!(matches("[a-c][!0-9]", "bx"));
        assert!(!matches("[a-c][!0-9]", "b5"));
        assert!(matches("[]]", "]"));
    }

    #[test]
    fn an_unclosed_bracket_is_refused_with_its_place() {
        assert_eq!(
            Glob::parse("/a/{b").unwrap_err(),
            BadGlob { at: 3, what: "`{` without its `}`" }
        );
        assert_eq!(Glob::parse("/a}").unwrap_err(), BadGlob { at: 2, what: "`}` without its `{`" });
        assert_eq!(
            Glob::parse("/a/[b").unwrap_err(),
            BadGlob { at: 3, what: "`[` without its `]`" }
        );
    }
}
