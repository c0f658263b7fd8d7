//! Users and groups as the files of /etc have them: passwd, shadow, group, gshadow, subuid, subgid.
//!
//! Lines that are none of ours stay as they are, byte for byte, and so do all fields that no
//! document speaks of.

mod change;
mod check;
mod defaults;
mod numbers;

pub use change::{Change, Person, change};
pub use defaults::Defaults;

/// Where the files are.
pub const FILES: [(&str, Kind); 6] = [
    ("/etc/passwd", Kind::Passwd),
    ("/etc/shadow", Kind::Shadow),
    ("/etc/group", Kind::Group),
    ("/etc/gshadow", Kind::Gshadow),
    ("/etc/subuid", Kind::Subuid),
    ("/etc/subgid", Kind::Subgid),
];

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Users.
    Passwd,
    /// The hashes of their passwords.
    Shadow,
    /// Groups.
    Group,
    /// The hashes of their passwords.
    Gshadow,
    /// Ranges of numbers that users may give to users of their containers.
    Subuid,
    /// The same for groups.
    Subgid,
}

impl Kind {
    fn columns(self) -> usize {
        match self {
            Self::Passwd => 7,
            Self::Shadow => 9,
            Self::Group | Self::Gshadow => 4,
            Self::Subuid | Self::Subgid => 3,
        }
    }

    /// The mode of the file where it has to be made.
    pub fn mode(self) -> u32 {
        match self {
            Self::Shadow | Self::Gshadow => 0o600,
            Self::Passwd | Self::Group | Self::Subuid | Self::Subgid => 0o644,
        }
    }
}

/// The texts of the files; `None` where there is none.
pub type Texts = std::collections::BTreeMap<Kind, Option<String>>;

/// All files, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Accounts {
    passwd: Table,
    group: Table,
    /// Without it, hashes are in passwd.
    shadow: Option<Table>,
    gshadow: Option<Table>,
    subuid: Option<Table>,
    subgid: Option<Table>,
}

impl Accounts {
    /// Parses the files. Where there is no passwd at all, a shadow will be made with it.
    pub fn parse(texts: &Texts) -> Self {
        let text = |kind: Kind| texts.get(&kind).and_then(Option::as_deref);
        let table = |kind: Kind| text(kind).map(|text| Table::parse(text, kind.columns()));
        let empty = |kind: Kind| Table::parse("", kind.columns());
        let secret = |kind: Kind, open: Kind| {
            table(kind).or_else(|| text(open).is_none().then(|| empty(kind)))
        };
        Self {
            passwd: table(Kind::Passwd).unwrap_or_else(|| empty(Kind::Passwd)),
            group: table(Kind::Group).unwrap_or_else(|| empty(Kind::Group)),
            shadow: secret(Kind::Shadow, Kind::Passwd),
            gshadow: secret(Kind::Gshadow, Kind::Group),
            subuid: table(Kind::Subuid),
            subgid: table(Kind::Subgid),
        }
    }

    /// The text of a file, if it is to be there.
    pub fn text(&self, kind: Kind) -> Option<String> {
        let table = match kind {
            Kind::Passwd => Some(&self.passwd),
            Kind::Group => Some(&self.group),
            Kind::Shadow => self.shadow.as_ref(),
            Kind::Gshadow => self.gshadow.as_ref(),
            Kind::Subuid => self.subuid.as_ref(),
            Kind::Subgid => self.subgid.as_ref(),
        };
        table.map(Table::text)
    }

    /// The number of a user.
    pub fn user_id(&self, name: &str) -> Option<u32> {
        self.passwd.get(name)?.number(2)
    }

    /// Somebody, with nothing to be done.
    pub fn person(&self, name: &str) -> Option<Person> {
        let row = self.passwd.get(name)?;
        let (user, group) = row.number(2).zip(row.number(3))?;
        let (name, home, at) = (name.to_owned(), row.0[5].clone(), String::new());
        Some(Person { at, name, user, group, home, change: Change::Keep, keys: Vec::new() })
    }

    /// The number of a group.
    pub fn group_id(&self, name: &str) -> Option<u32> {
        self.group.get(name)?.number(2)
    }
}

/// One file: rows of columns between `:`, and lines that are no such rows.
#[derive(Clone, Debug, PartialEq)]
struct Table {
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq)]
enum Line {
    Row(Row),
    Other(String),
}

/// A row; its first column is its name.
#[derive(Clone, Debug, PartialEq)]
struct Row(Vec<String>);

impl Row {
    fn new<const N: usize>(columns: [&str; N]) -> Self {
        Self(columns.map(str::to_owned).into())
    }

    fn name(&self) -> &str {
        &self.0[0]
    }

    fn number(&self, column: usize) -> Option<u32> {
        self.0[column].parse().ok()
    }

    /// The names in a column that is a list of them.
    fn names(&self, column: usize) -> impl Iterator<Item = &str> {
        self.0[column].split(',').filter(|name| !name.is_empty())
    }

    /// Puts a name into a list, or takes it out of it.
    fn set_member(&mut self, column: usize, name: &str, is_in: bool) {
        if self.names(column).any(|one| one == name) == is_in {
            return;
        }
        let mut names: Vec<&str> = self.names(column).filter(|one| *one != name).collect();
        if is_in {
            names.push(name);
        }
        self.0[column] = names.join(",");
    }
}

impl Table {
    fn parse(text: &str, columns: usize) -> Self {
        let line = |line: &str| {
            let row: Vec<String> = line.split(':').map(str::to_owned).collect();
            let is_row = row.len() == columns && !line.starts_with(['#', '+', '-', ':']);
            if is_row { Line::Row(Row(row)) } else { Line::Other(line.to_owned()) }
        };
        Self { lines: text.lines().map(line).collect() }
    }

    fn text(&self) -> String {
        let line = |line: &Line| match line {
            Line::Row(row) => row.0.join(":") + "\n",
            Line::Other(text) => text.clone() + "\n",
        };
        self.lines.iter().map(line).collect()
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.lines.iter().filter_map(|line| match line {
            Line::Row(row) => Some(row),
            Line::Other(_) => None,
        })
    }

    fn rows_mut(&mut self) -> impl Iterator<Item = &mut Row> {
        self.lines.iter_mut().filter_map(|line| match line {
            Line::Row(row) => Some(row),
            Line::Other(_) => None,
        })
    }

    fn get(&self, name: &str) -> Option<&Row> {
        self.rows().find(|row| row.name() == name)
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Row> {
        self.rows_mut().find(|row| row.name() == name)
    }

    fn push(&mut self, row: Row) {
        self.lines.push(Line::Row(row));
    }

    fn remove(&mut self, name: &str) {
        self.lines.retain(|line| !matches!(line, Line::Row(row) if row.name() == name));
    }

    /// The numbers that are taken.
    fn numbers(&self) -> std::collections::BTreeSet<u32> {
        self.rows().filter_map(|row| row.number(2)).collect()
    }
}
