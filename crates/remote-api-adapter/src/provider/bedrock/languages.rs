//! BCP 47 tags as the languages of NLLB-200, by the table in `flores200.tsv`.

use std::{collections::HashMap, sync::LazyLock};

use domain::fault::{Code, Fault, Origin};

/// Lines of `code<TAB>tag tag …`; `#` begins a comment.
const TABLE: &str = include_str!("flores200.tsv");

/// Lowercase tag to code.
static CODES: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let mut codes = HashMap::new();
    for (code, tags) in
        TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('\t'))
    {
        codes.insert(code.replace('_', "-").to_ascii_lowercase(), code);
        codes.extend(
            tags.split(' ').filter(|tag| !tag.is_empty()).map(|tag| (tag.to_ascii_lowercase(), code)),
        );
    }
    codes
});

/// NLLB-200's code of a language, as in `deu_Latn` for `de-AT`.
///
/// # Errors
/// `Unsupported` naming `field`: the model does not have the language, or not in this script.
pub(super) fn code(field: &str, tag: &str) -> Result<&'static str, Fault> {
    find(tag).ok_or_else(|| {
        let shown: String = tag.chars().take(40).collect();
        let message = format!(
            "{field} is {shown:?}, expected a BCP 47 tag of one of the 202 languages of NLLB-200, as in `de` or `zh-Hant`"
        );
        Fault::new(Code::Unsupported, Origin::Caller, true, message).in_field(field)
    })
}

fn find(tag: &str) -> Option<&'static str> {
    let tag = tag.to_ascii_lowercase();
    let mut subtags = tag.split('-').peekable();
    let mut language = subtags.next()?;
    let alphabetic =
        |subtag: &&str, length| subtag.len() == length && subtag.bytes().all(|b| b.is_ascii_alphabetic());
    // an extended language (zh-yue) is a language of its own
    while let Some(extended) = subtags.next_if(|subtag| alphabetic(subtag, 3)) {
        language = extended;
    }
    let by_language = CODES.get(language).copied();
    if let Some(script) = subtags.next_if(|subtag| alphabetic(subtag, 4)) {
        let in_this_script =
            |code: &&str| code.rsplit('_').next().is_some_and(|own| own.eq_ignore_ascii_case(script));
        return CODES.get(&format!("{language}-{script}")).copied().or(by_language.filter(in_this_script));
    }
    let region = subtags.next_if(|subtag| alphabetic(subtag, 2));
    region.and_then(|region| CODES.get(&format!("{language}-{region}")).copied()).or(by_language)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_codes() {
        for (tag, expected) in [
            ("de", "deu_Latn"),
            ("de-AT", "deu_Latn"),
            ("de-Latn-DE-1996", "deu_Latn"),
            ("deu", "deu_Latn"),
            ("EN-us", "eng_Latn"),
            ("pt-BR", "por_Latn"),
            ("es-419", "spa_Latn"),
            ("zh", "zho_Hans"),
            ("zh-TW", "zho_Hant"),
            ("zh-Hant-HK", "zho_Hant"),
            ("zh-yue", "yue_Hant"),
            ("ar-EG", "arb_Arab"),
            ("arz", "arz_Arab"),
            ("no", "nob_Latn"),
            ("fa-AF", "prs_Arab"),
            ("ku-Arab", "ckb_Arab"),
            ("ace-Arab", "ace_Arab"),
            ("ace", "ace_Latn"),
        ] {
            assert_eq!(code("target_language", tag).unwrap(), expected, "{tag}");
        }
    }

    #[test]
    fn a_language_or_script_that_the_model_lacks_is_refused_by_name() {
        for tag in ["tlh", "sr-Latn", "de-Cyrl", "x-private", "", "-", "ü"] {
            let fault = code("target_language", tag).unwrap_err();
            assert_eq!((fault.code, fault.field.as_str()), (Code::Unsupported, "target_language"), "{tag}");
        }
    }

    #[test]
    fn the_table_has_each_language_once() {
        let rows: Vec<&str> = TABLE.lines().filter(|line| !line.starts_with('#')).collect();
        let tags =
            rows.iter().filter_map(|row| Some(row.split_once('\t')?.1)).flat_map(|tags| tags.split(' '));
        let tags: Vec<&str> = tags.filter(|tag| !tag.is_empty()).collect();
        let unique: std::collections::BTreeSet<_> = tags.iter().collect();
        assert_eq!((rows.len(), unique.len()), (202, tags.len()));
        for row in rows {
            let code = row.split('\t').next().unwrap();
            assert_eq!(find(&code.replace('_', "-")), Some(code));
        }
    }
}
