//! A line of `iptables-save` as words.

/// Splits as `iptables-restore` does, which is not what a shell does: only double quotes count, and a backslash only
/// within them. `None` where a quote is not closed.
pub(super) fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().push(characters.next()?),
            character if character.is_whitespace() && !quoted => words.extend(word.take()),
            character => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

/// Words, taken one after the other.
#[derive(Debug)]
pub(super) struct Words<'a> {
    words: &'a [String],
    at: usize,
}

impl<'a> Words<'a> {
    pub fn new(words: &'a [String]) -> Self {
        Self { words, at: 0 }
    }

    pub fn next(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    /// Takes the next word if it is `expected`.
    pub fn take(&mut self, expected: &str) -> bool {
        let there = self.words.get(self.at).is_some_and(|word| word == expected);
        self.at += usize::from(there);
        there
    }

    /// Takes what belongs to an option that is not known: everything up to the next one.
    pub fn rest_of_option(&mut self) -> Vec<&'a str> {
        let rest = &self.words[self.at..];
        let options = |word: &String| word == "!" || (word.starts_with('-') && word.len() > 1);
        let length = rest.iter().position(options).unwrap_or(rest.len());
        self.at += length;
        rest[..length].iter().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    #[rstest]
    #[case::plain("-A X  -p tcp", Some(vec!["-A", "X", "-p", "tcp"]))]
    #[case::quoted(r#"--comment "a \"b\" \\ it's""#, Some(vec!["--comment", r#"a "b" \ it's"#]))]
    #[case::empty(r#"--comment """#, Some(vec!["--comment", ""]))]
    #[case::no_shell(r"it's #1 \x", Some(vec!["it's", "#1", r"\x"]))]
    #[case::open(r#"--comment "a"#, None)]
    #[case::escape_at_end("\"a\\", None)]
    fn words_are_split_as_iptables_restore_does(
        #[case] line: &str,
        #[case] words: Option<Vec<&str>>,
    ) {
        let words = words.map(|words| words.into_iter().map(str::to_owned).collect());
        assert_eq!(super::split(line), words);
    }
}
