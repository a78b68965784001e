//! The syntax of the configuration file: a subset of TOML, read line by line.
//!
//! The subset has comments, `key = value`, `[[tables]]`, strings, numbers, `true` and `false`, and lists of these
//! over several lines. Every file that is read is TOML, but not every TOML file is read; what cannot be read is
//! reported with its line. The meaning of keys is not decided here.

/// A line `key = value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The line's number, from 1 on.
    pub line: usize,
    /// The key.
    pub key: String,
    /// The value; several if it is a list.
    pub values: Vec<String>,
    /// Whether it was written as a list.
    pub list: bool,
}

/// A table: settings that belong together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// The number of its head's line, from 1 on.
    pub line: usize,
    /// The table's name; empty for the settings before the first head.
    pub name: String,
    /// Its settings in the order of the file.
    pub settings: Vec<Setting>,
}

/// An error in the file, and its line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The line's number, from 1 on.
    pub line: usize,
    /// The message for people.
    pub text: String,
}

/// Parses a file; the first table is the one without a name. Lines that cannot be read are left out and reported.
pub fn parse(text: &str) -> (Vec<Table>, Vec<ConfigError>) {
    let mut errors = Vec::new();
    let mut tables = vec![Table {
        line: 1,
        name: String::new(),
        settings: Vec::new(),
    }];
    // Editors of Windows begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = (1..).zip(text.lines());
    while let Some((line, text)) = lines.next() {
        let bare = text.trim();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        let read = match bare.starts_with('[') {
            true => head(bare).map(|name| {
                let settings = Vec::new();
                tables.push(Table {
                    line,
                    name,
                    settings,
                });
            }),
            false => setting(line, bare, &mut lines).and_then(|read| {
                let settings = tables.last_mut().map(|table| &mut table.settings);
                let Some(settings) = settings else {
                    return Ok(());
                };
                if settings.iter().any(|other| other.key == read.key) {
                    return Err(format!("{} is there twice; write one list", read.key));
                }
                settings.push(read);
                Ok(())
            }),
        };
        errors.extend(read.err().map(|text| ConfigError { line, text }));
    }
    (tables, errors)
}

/// Parses `key = value`, whose value may be a list that goes on in the next lines.
fn setting<'t>(
    line: usize,
    bare: &str,
    lines: &mut (impl Iterator<Item = (usize, &'t str)> + Clone),
) -> Result<Setting, String> {
    let (key, value) = bare
        .split_once('=')
        .ok_or_else(|| "this is no `key = value`".to_owned())?;
    let key = key.trim().to_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if key.is_empty() || !key.chars().all(plain) {
        return Err(format!("\"{key}\" is no key"));
    }
    let mut value = value.to_owned();
    let mut before = lines.clone();
    let (values, list) = loop {
        let read = read_value(&value).inspect_err(|_| {
            // A line that does not continue the list may be a setting of its own.
            lines.clone_from(&before);
        });
        match read? {
            Some(read) => break read,
            None => match next_line(lines, &mut before) {
                Some((_, more)) => value = format!("{value}\n{more}"),
                None => return Err("the list has no end: a ] is missing".to_owned()),
            },
        }
    };
    Ok(Setting {
        line,
        key,
        values,
        list,
    })
}

/// Returns the next line; `before` gets the position at which it begins.
fn next_line<L: Iterator + Clone>(lines: &mut L, before: &mut L) -> Option<L::Item> {
    before.clone_from(lines);
    lines.next()
}

fn head(text: &str) -> Result<String, String> {
    let text = strip_comment(text);
    let name = text
        .strip_prefix("[[")
        .and_then(|rest| rest.strip_suffix("]]"))
        .ok_or_else(|| "a head is written [[seed]] or [[get]]".to_owned())?;
    Ok(name.trim().to_owned())
}

fn strip_comment(text: &str) -> &str {
    text.split_once('#').map_or(text, |(text, _)| text).trim()
}

/// The values, and whether they are a list; `None` if the list goes on in the next line.
fn read_value(text: &str) -> Result<Option<(Vec<String>, bool)>, String> {
    let mut rest = text.trim_start();
    let Some(inside) = rest.strip_prefix('[') else {
        let (value, rest) = scalar(rest)?;
        return end(rest).map(|()| Some((vec![value], false)));
    };
    rest = inside;
    let mut values = Vec::new();
    loop {
        rest = skip(rest);
        if rest.is_empty() {
            return Ok(None);
        }
        if let Some(rest) = rest.strip_prefix(']') {
            return end(rest).map(|()| Some((values, true)));
        }
        let (value, after) = scalar(rest)?;
        values.push(value);
        rest = skip(after);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() || rest.starts_with(']') => {}
            None => return Err("a comma is missing in the list".to_owned()),
        }
    }
}

/// Skips blanks, line ends and comments in a list.
fn skip(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        match text.strip_prefix('#') {
            Some(comment) => text = comment.split_once('\n').map_or("", |(_, rest)| rest),
            None => return text,
        }
    }
}

fn end(rest: &str) -> Result<(), String> {
    match strip_comment(rest) {
        "" => Ok(()),
        rest => Err(format!("\"{rest}\" stands after the value")),
    }
}

/// One value, and the text after it.
fn scalar(text: &str) -> Result<(String, &str), String> {
    if let Some(rest) = text.strip_prefix('"') {
        return quoted(rest);
    }
    if let Some(rest) = text.strip_prefix('\'') {
        return match rest.split_once('\'') {
            Some((value, after)) if !value.contains('\n') => Ok((value.to_owned(), after)),
            _ => Err("a ' is missing at the end".to_owned()),
        };
    }
    let stop = |c: char| c.is_whitespace() || matches!(c, ',' | ']' | '#');
    let (value, after) = text.split_at(text.find(stop).unwrap_or(text.len()));
    let number = value.starts_with(|c: char| c.is_ascii_digit())
        && value.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    match value {
        "" => Err("the value is missing".to_owned()),
        "true" | "false" => Ok((value.to_owned(), after)),
        _ if number => Ok((value.to_owned(), after)),
        _ => Err(format!("text has to stand in quotes: \"{value}\"")),
    }
}

/// The content of a string in double quotes, and the text after it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or(""))),
            '\n' => break,
            '\\' => {
                let (_, escape) = chars.next().unwrap_or((0, ' '));
                let hex = |chars: &mut std::str::CharIndices<'_>, len| {
                    let digits: String = chars.take(len).map(|(_, c)| c).collect();
                    let code = u32::from_str_radix(&digits, 16).ok();
                    code.filter(|_| digits.len() == len)
                        .and_then(char::from_u32)
                };
                let c = match escape {
                    '"' | '\\' => Some(escape),
                    'n' => Some('\n'),
                    't' => Some('\t'),
                    'r' => Some('\r'),
                    'u' => hex(&mut chars, 4),
                    'U' => hex(&mut chars, 8),
                    _ => None,
                };
                value.push(c.ok_or_else(|| {
                    "a \\ in \"..\" is written \\\\; or write '..' around the text".to_owned()
                })?);
            }
            c => value.push(c),
        }
    }
    Err("a \" is missing at the end".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<(Vec<String>, bool), String> {
        let (tables, errors) = parse(text);
        if let Some(error) = errors.first() {
            return Err(format!("{}: {}", error.line, error.text));
        }
        let setting = tables[0].settings[0].clone();
        assert_eq!(setting.key, "key");
        Ok((setting.values, setting.list))
    }

    #[test]
    fn values() {
        let table: &[(&str, &[&str], bool)] = &[
            ("key = \"text\"", &["text"], false),
            ("key=\"# no comment\" # one", &["# no comment"], false),
            (r#"key = "a\"b\\c\tA\u00e9""#, &["a\"b\\c\tAé"], false),
            (r"key = 'C:\no escapes'", &[r"C:\no escapes"], false),
            ("key = 12", &["12"], false),
            ("key = 1.5  # ratio", &["1.5"], false),
            ("key = true", &["true"], false),
            ("key = []", &[], true),
            ("key = [\"a\", 'b',3]", &["a", "b", "3"], true),
            (
                "key = [ # all\n  \"a\", # x\n\n  \"b\",\n] # end",
                &["a", "b"],
                true,
            ),
            ("\n# comment\n  key = \"\"\r\n", &[""], false),
            ("\u{feff}key\t=\t[\r\n\t\"a\",\r\n]\r\n", &["a"], true),
        ];
        for (text, values, list) in table {
            let values = values.iter().map(|v| (*v).to_owned()).collect();
            assert_eq!(one(text), Ok((values, *list)), "{text}");
        }
    }

    #[test]
    fn tables() {
        let text = "a = 1\n[[get]] # first\nb = 2\n\n[[get]]\n";
        let tables = parse(text).0;
        let heads: Vec<_> = tables.iter().map(|t| (t.line, t.name.as_str())).collect();
        assert_eq!(heads, [(1, ""), (2, "get"), (5, "get")]);
        assert_eq!(tables[1].settings[0].line, 3);
        assert!(tables[2].settings.is_empty());
    }

    #[test]
    fn refusals() {
        let table = [
            ("key", "1: this is no `key = value`"),
            ("a b = 1", "1: \"a b\" is no key"),
            ("\nkey = text", "2: text has to stand in quotes: \"text\""),
            ("key = ", "1: the value is missing"),
            ("key = \"a", "1: a \" is missing at the end"),
            ("key = 'a", "1: a ' is missing at the end"),
            ("key = \"a\" b", "1: \"b\" stands after the value"),
            (r#"key = "C:\x""#, "1: a \\ in"),
            (r#"key = "\u12"#, "1: a \\ in"),
            ("key = [1 2]", "1: a comma is missing in the list"),
            ("key = [1,\n2", "1: the list has no end: a ] is missing"),
            ("[seed]", "1: a head is written [[seed]] or [[get]]"),
            ("key = 1\nkey = 2", "2: key is there twice; write one list"),
        ];
        for (text, complaint) in table {
            let error = one(text).unwrap_err();
            assert!(error.starts_with(complaint), "{text}: {error}");
        }
    }
}
