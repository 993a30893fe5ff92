//! A configuration's text in statements: words up to a `;`, or up to the `{` of a block, or the `}` that ends one. As
//! `ngx_conf_read_token` does it (src/core/ngx_conf_file.c), to what is quoted and what is not.

/// A word, quotes and backslashes seen to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) line: u32,
}

/// How a statement ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Semicolon,
    Opened,
    /// Of a block; the statement has no words.
    Closed,
    /// Of the file, likewise.
    File,
}

/// What is wrong with a text, and in which line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: u32,
    pub(super) what: &'static str,
}

/// Reads statements one after another.
pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
}

const SPACE: [u8; 4] = *b" \t\r\n";

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, line: 1 }
    }

    /// The line that is being read, from 1.
    pub(super) fn line(&self) -> u32 {
        self.line
    }

    fn fault<T>(&self, what: &'static str) -> Result<T, Fault> {
        Err(Fault { line: self.line, what })
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        self.line += u32::from(byte == b'\n');
        Some(byte)
    }

    pub(super) fn statement(&mut self) -> Result<(Vec<Word>, End), Fault> {
        let mut words = Vec::new();
        loop {
            match self.peek() {
                None if words.is_empty() => return Ok((words, End::File)),
                None => return self.fault("the file ends within a directive: is there a ; missing?"),
                Some(b'#') => while self.next().is_some_and(|byte| byte != b'\n') {},
                Some(byte) if SPACE.contains(&byte) => drop(self.next()),
                Some(b';' | b'{') if words.is_empty() => return self.fault("a ; or { without a directive"),
                Some(b'}') if !words.is_empty() => return self.fault("a } within a directive: is there a ; missing?"),
                Some(end @ (b';' | b'{' | b'}')) => {
                    self.next();
                    let end = match end {
                        b';' => End::Semicolon,
                        b'{' => End::Opened,
                        _ => End::Closed,
                    };
                    return Ok((words, end));
                }
                Some(quote @ (b'"' | b'\'')) => words.push(self.quoted(quote)?),
                Some(_) => words.push(self.plain()),
            }
        }
    }

    fn quoted(&mut self, quote: u8) -> Result<Word, Fault> {
        let line = self.line;
        self.next();
        let start = self.at;
        loop {
            match self.next() {
                None => return Err(Fault { line, what: "a quote is not closed" }),
                Some(b'\\') => drop(self.next()),
                Some(byte) if byte == quote => break,
                Some(_) => {}
            }
        }
        let text = unescaped(&self.text[start..self.at - 1]);
        match self.peek() {
            Some(b';' | b'{' | b')') | None => Ok(Word { text, line }),
            Some(byte) if SPACE.contains(&byte) => Ok(Word { text, line }),
            Some(_) => self.fault("there must be a space after a closing quote"),
        }
    }

    fn plain(&mut self) -> Word {
        let (line, start) = (self.line, self.at);
        let mut variable = false;
        while let Some(byte) = self.peek() {
            match byte {
                // The braces of ${name} are part of a word, not those of blocks.
                b'{' if variable => {}
                b';' | b'{' => break,
                byte if SPACE.contains(&byte) => break,
                b'\\' => {
                    self.next();
                }
                _ => variable = byte == b'$',
            }
            self.next();
        }
        Word { text: unescaped(&self.text[start..self.at.min(self.text.len())]), line }
    }

    /// Skips a block of Lua, whose `{` has been read (`content_by_lua_block` and its like, of lua-nginx-module), to behind its `}`.
    pub(super) fn skip_lua(&mut self) -> Result<(), Fault> {
        let line = self.line;
        let mut depth = 1;
        while let Some(byte) = self.next() {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                b'"' | b'\'' => self.skip_lua_string(byte),
                b'-' if self.peek() == Some(b'-') => {
                    self.next();
                    if !self.skip_long_bracket() {
                        while self.next().is_some_and(|byte| byte != b'\n') {}
                    }
                }
                b'[' => {
                    self.at -= 1;
                    if !self.skip_long_bracket() {
                        self.next();
                    }
                }
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
        Err(Fault { line, what: "a block of Lua is not closed" })
    }

    fn skip_lua_string(&mut self, quote: u8) {
        while let Some(byte) = self.next() {
            match byte {
                b'\\' => drop(self.next()),
                byte if byte == quote => return,
                _ => {}
            }
        }
    }

    /// Skips `[[ … ]]` or `[=[ … ]=]`, if that is what comes.
    fn skip_long_bracket(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let level = rest.iter().skip(1).take_while(|byte| **byte == b'=').count();
        if rest.first() != Some(&b'[') || rest.get(level + 1) != Some(&b'[') {
            return false;
        }
        let end = [b"]", "=".repeat(level).as_bytes(), b"]"].concat();
        while !self.text[self.at..].starts_with(&end) {
            if self.next().is_none() {
                return true;
            }
        }
        self.at += end.len();
        true
    }
}

/// Without the backslashes that nginx takes out.
fn unescaped(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let stands_for = match (byte, bytes.peek()) {
            (b'\\', Some(quoted @ (b'"' | b'\'' | b'\\'))) => Some(*quoted),
            (b'\\', Some(b't')) => Some(b'\t'),
            (b'\\', Some(b'r')) => Some(b'\r'),
            (b'\\', Some(b'n')) => Some(b'\n'),
            _ => None,
        };
        if stands_for.is_some() {
            bytes.next();
        }
        text.push(stands_for.unwrap_or(byte));
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of each statement, and how it ended.
    fn read(text: &str) -> Result<Vec<(Vec<String>, End)>, Fault> {
        let mut reader = Reader::new(text.as_bytes());
        let mut all = Vec::new();
        loop {
            let (words, end) = reader.statement()?;
            if end == End::File {
                return Ok(all);
            }
            all.push((words.into_iter().map(|word| word.text).collect(), end));
        }
    }

    fn words(text: &str) -> Vec<String> {
        let mut all = read(text).unwrap();
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0).0
    }

    #[test]
    fn words_are_what_nginx_takes_them_for() {
        for (text, expected) in [
            ("listen 80;", &["listen", "80"][..]),
            ("listen\t80 ;", &["listen", "80"]),
            ("a ${{b}}c;", &["a", "${{b}}c"]),
            ("a 'b c' \"d;{}#e\";", &["a", "b c", "d;{}#e"]),
            ("a \"it's\" 'say \"x\"';", &["a", "it's", "say \"x\""]),
            (r#"a "q\"q" b\;c \$d "tab\t";"#, &["a", "q\"q", r"b\;c", r"\$d", "tab\t"]),
            (r"location ~ ^/(?<id>\d+)$ {", &["location", "~", r"^/(?<id>\d+)$"]),
            ("proxy_pass http://${up}_x/$uri;", &["proxy_pass", "http://${up}_x/$uri"]),
            ("a b#c # d\n e;", &["a", "b#c", "e"]),
            ("if ($a = 'b') {", &["if", "($a", "=", "b", ")"]),
            ("a \"\" '';", &["a", "", ""]),
            ("a b}c;", &["a", "b}c"]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn statements_end_as_blocks_do() {
        let ends = |text: &str| read(text).unwrap().into_iter().map(|(_, end)| end).collect::<Vec<_>>();
        assert_eq!(ends("a { b; } c;"), [End::Opened, End::Semicolon, End::Closed, End::Semicolon]);
        assert!(ends("  # nothing\n").is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line) in [
            ("a b", 1),
            ("a;\n;", 2),
            ("a;\n{", 2),
            ("a;\nb }", 2),
            ("\n\na 'b;\nc;", 3),
            ("a \"b\"c;", 1),
            ("a \\", 1),
        ] {
            assert_eq!(read(text).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn lua_is_skipped_with_its_own_braces_and_quotes() {
        let lua = "local t = { a = '}', b = \"\\\"}\" } -- }\n --[[ } ]] x = [=[ } ]] ]=] y = t[1] z = [[}]] } after;";
        let mut reader = Reader::new(lua.as_bytes());
        reader.skip_lua().unwrap();
        assert_eq!(reader.statement().unwrap().0[0].text, "after");
        assert_eq!(Reader::new(b"a = '}'").skip_lua().unwrap_err().line, 1);
        assert!(Reader::new(b"--[[ }").skip_lua().is_err());
    }

    #[test]
    fn no_text_is_too_strange_to_be_read() {
        for text in [&b"\xff\xfe{\\"[..], b"'\\", b"$", b"${", b"\\", b"a $", b"a ${", b"\"", b"}", b"a\\"] {
            let _ = Reader::new(text).statement();
            let _ = Reader::new(text).skip_lua();
        }
    }
}
