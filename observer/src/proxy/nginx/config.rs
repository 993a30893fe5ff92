//! A configuration with all that it includes, as a tree.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::words::{End, Fault, Reader, Word};
use crate::{proxy::files::Root, text::escape};

/// Inclusions, of the same file or of others.
const MAX_INCLUSIONS: usize = 50_000;
/// Directives, entries of maps and the like among them: 100 MiB or so. Whoever runs a process that calls itself nginx chooses what is read.
const MAX_DIRECTIVES: usize = 500_000;
/// Files that include each other, one within the other, and blocks within blocks of one file. nginx itself has no limit but its stack.
const MAX_DEPTH: usize = 64;

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as nginx names it, control characters escaped.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
}

/// A directive, and what is in its block if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Its name: what comes first.
    pub name: String,
    /// The words behind it, quotes and backslashes seen to. Untrusted: escaped where they are shown.
    pub args: Vec<String>,
    /// Where its name is.
    pub place: Place,
    /// The directives in its block, those of included files in the places where they are included.
    pub block: Option<Vec<Self>>,
}

impl Directive {
    /// The first word behind the name, empty if there is none.
    pub fn arg(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    /// What is in its block.
    pub fn inside(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// A configuration.
#[derive(Debug)]
pub struct Config {
    /// Its directives.
    pub directives: Vec<Directive>,
    /// How many files they are from.
    pub files: usize,
}

/// Why a configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot.
    #[error("cannot read {file}{}: {why}", .from.as_ref().map_or(String::new(), |place| format!(", included in {}:{}", place.file, place.line)))]
    Unreadable {
        /// The file.
        file: String,
        /// Who asked for it.
        from: Option<Place>,
        /// What the kernel says.
        why: std::io::Error,
    },
    /// It is not written as nginx wants it.
    #[error("{}:{}: {what}; `nginx -t` says more", .place.file, .place.line)]
    Malformed {
        /// Where.
        place: Place,
        /// How.
        what: String,
    },
}

/// Reads a configuration and what it includes, all under `root` (`/`, or a container's).
pub fn read(root: &Path, file: &Path) -> Result<Config, ConfigError> {
    let unreadable = |why| ConfigError::Unreadable { file: shown(file), from: None, why };
    let file = std::path::absolute(file).map_err(unreadable)?;
    let root = Root::open(root).map_err(unreadable)?;
    // What nginx resolves relative names against (`ngx_conf_full_name`, src/core/ngx_conf_file.c).
    let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
    let mut tree = Tree { root, folder, files: HashSet::new(), inclusions: 0, count: 0 };
    let directives = tree.file(&file, None, 0)?;
    Ok(Config { directives, files: tree.files.len() })
}

struct Tree {
    root: Root,
    folder: PathBuf,
    files: HashSet<PathBuf>,
    inclusions: usize,
    /// Directives so far.
    count: usize,
}

/// A block that is being read: the directive that it is of, and what it holds so far.
type Open = (Option<Directive>, Vec<Directive>);

impl Tree {
    fn file(&mut self, path: &Path, from: Option<&Place>, depth: usize) -> Result<Vec<Directive>, ConfigError> {
        self.files.insert(path.to_owned());
        let text = self.root.read(path).map_err(|why| ConfigError::Unreadable {
            file: shown(path),
            from: from.cloned(),
            why,
        })?;
        let name: Arc<str> = shown(path).into();
        let mut reader = Reader::new(&text);
        let mut blocks: Vec<Open> = vec![(None, Vec::new())];
        loop {
            let place = |line| Place { file: Arc::clone(&name), line };
            let malformed = |Fault { line, what }| ConfigError::Malformed { place: place(line), what: what.to_owned() };
            let (words, end) = reader.statement().map_err(malformed)?;
            let mut words = words.into_iter();
            let directive = words.next().map(|Word { text, line }| Directive {
                name: text,
                args: words.map(|word| word.text).collect(),
                place: place(line),
                block: None,
            });
            self.count += 1;
            if self.count > MAX_DIRECTIVES {
                let what = format!("more than {MAX_DIRECTIVES} directives");
                return Err(ConfigError::Malformed { place: place(reader.line()), what });
            }
            match (directive, end) {
                (Some(include), End::Semicolon) if include.name == "include" => {
                    let included = self.included(&include, depth)?;
                    inner(&mut blocks).extend(included);
                }
                (Some(directive), End::Semicolon) => inner(&mut blocks).push(directive),
                (Some(mut lua), End::Opened) if lua.name.ends_with("_by_lua_block") => {
                    reader.skip_lua().map_err(malformed)?;
                    lua.block = Some(Vec::new());
                    inner(&mut blocks).push(lua);
                }
                (Some(directive), _) if blocks.len() > MAX_DEPTH => {
                    let what = format!("blocks within blocks, more than {MAX_DEPTH}");
                    return Err(ConfigError::Malformed { place: directive.place, what });
                }
                (Some(directive), _) => blocks.push((Some(directive), Vec::new())),
                (None, End::Closed) => {
                    let (directive, block) = blocks.pop().unwrap_or_default();
                    let Some(mut directive) = directive else {
                        return Err(malformed(Fault { line: reader.line(), what: "a } without a {" }));
                    };
                    directive.block = Some(block);
                    inner(&mut blocks).push(directive);
                }
                (None, _) => {
                    let (directive, block) = blocks.pop().unwrap_or_default();
                    return match directive {
                        None => Ok(block),
                        Some(directive) => Err(ConfigError::Malformed {
                            what: format!("the block of {} is not closed", escape(directive.name.as_bytes())),
                            place: directive.place,
                        }),
                    };
                }
            }
        }
    }

    fn included(&mut self, include: &Directive, depth: usize) -> Result<Vec<Directive>, ConfigError> {
        let malformed = |what: String| ConfigError::Malformed { place: include.place.clone(), what };
        if depth >= MAX_DEPTH {
            return Err(malformed(format!("files include each other, more than {MAX_DEPTH} deep")));
        }
        let pattern = self.folder.join(include.arg());
        let mut all = Vec::new();
        for path in self.root.matching(&pattern) {
            self.inclusions += 1;
            if self.inclusions > MAX_INCLUSIONS {
                return Err(malformed(format!("files are included more than {MAX_INCLUSIONS} times")));
            }
            all.append(&mut self.file(&path, Some(&include.place), depth + 1)?);
        }
        Ok(all)
    }
}

/// What the innermost block holds so far.
fn inner(blocks: &mut [Open]) -> &mut Vec<Directive> {
    // The file's own is closed by nothing but the end of its reading.
    &mut blocks.last_mut().expect("the file's own is there").1
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn read(files: &[(&str, &str)]) -> Result<Config, ConfigError> {
        super::read(folder(files).path(), Path::new("/etc/nginx/nginx.conf"))
    }

    fn error(text: &str) -> String {
        read(&[("etc/nginx/nginx.conf", text)]).unwrap_err().to_string()
    }

    #[test]
    fn what_is_included_is_where_it_is_included() {
        let config = read(&[
            (
                "etc/nginx/nginx.conf",
                "user www;\nhttp {\n  include conf.d/*.conf;\n  include /etc/extra;\n gzip on; }\n",
            ),
            ("etc/nginx/conf.d/b.conf", "server {\n  include snippets/x;\n}\n"),
            ("etc/nginx/conf.d/a.conf", "upstream u { server 10.0.0.1; }"),
            ("etc/nginx/snippets/x", "\n\nlisten 80;"),
            ("etc/extra", "sendfile on;"),
        ])
        .unwrap();
        assert_eq!(config.files, 5);
        let http = config.directives[1].inside();
        let names: Vec<_> = http.iter().map(|directive| &directive.name[..]).collect();
        assert_eq!(names, ["upstream", "server", "sendfile", "gzip"]);
        let listen = &http[1].inside()[0];
        assert_eq!((&listen.name[..], listen.arg()), ("listen", "80"));
        assert_eq!((&*listen.place.file, listen.place.line), ("/etc/nginx/snippets/x", 3));
    }

    #[test]
    fn lua_is_no_configuration() {
        let config = read(&[(
            "etc/nginx/nginx.conf",
            "location / { content_by_lua_block { local a = \"}\" ngx.say('{') } proxy_pass http://u; }",
        )])
        .unwrap();
        let names: Vec<_> = config.directives[0].inside().iter().map(|directive| &directive.name[..]).collect();
        assert_eq!(names, ["content_by_lua_block", "proxy_pass"]);
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        assert_eq!(
            error("http {\n  include missing.conf;\n}"),
            "cannot read /etc/nginx/missing.conf, included in /etc/nginx/nginx.conf:2: No such file or directory (os error 2)"
        );
        assert!(
            error("http {\n  server { listen 80; }\n").starts_with("/etc/nginx/nginx.conf:1: the block of http is not")
        );
        assert!(error("a;\n}").starts_with("/etc/nginx/nginx.conf:2: a } without a {"));
        assert!(error("a;\nb c }").starts_with("/etc/nginx/nginx.conf:2: a } within a directive"));
        assert!(error("include nginx.conf;").contains("more than 64 deep"));
        assert!(error(&"a {".repeat(100_000)).contains("blocks within blocks"));
        assert!(super::read(Path::new("/"), Path::new("/nowhere/nginx.conf")).is_err());
    }

    #[test]
    fn patterns_that_match_nothing_include_nothing() {
        assert!(read(&[("etc/nginx/nginx.conf", "include sites-enabled/*;")]).unwrap().directives.is_empty());
    }
}
