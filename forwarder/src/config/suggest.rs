//! "Did you mean …?"

/// The candidate a user most likely meant by `word`, if any is near enough.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // No word this long is a slip of one of ours, and the distance takes quadratic time.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase().replace('_', "-");
    let distance = |candidate: &&str| strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let best = candidates.iter().copied().min_by_key(distance)?;
    let length = best.chars().count();
    if distance(&best) <= (length / 3).max(1) && distance(&best) < length {
        return Some(best);
    }
    // "tcp" for "tcp-established", "warning" for "warn".
    let extends = |candidate: &&str| candidate.starts_with(&word) || word.starts_with(candidate);
    candidates
        .into_iter()
        .find(|candidate| word.len() >= 3 && extends(candidate))
}

/// The same as a phrase for the end of a message.
pub(super) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// "`a`, `b` or `c`".
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}
