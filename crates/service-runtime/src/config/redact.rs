//! What a dump or a message may not repeat.

/// Takes user and password out of every `scheme://user:password@host`.
pub(super) fn redact(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) => {
            if let Some(redacted) = without_user_info(text) {
                *text = redacted;
            }
        }
        toml::Value::Array(items) => items.iter_mut().for_each(redact),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| redact(value)),
        _ => {}
    }
}

pub(super) fn without_user_info(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(authority_end)?;
    let (_, host) = authority.rsplit_once('@')?;
    Some(format!("{scheme}://[redacted]@{host}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_of_addresses_and_nothing_else() {
        let table = [
            ("nats://user:pass@host:4222", Some("nats://[redacted]@host:4222")),
            ("http://token@host/path?a=b@c", Some("http://[redacted]@host/path?a=b@c")),
            ("http://a@b@host", Some("http://[redacted]@host")),
            ("http://host/users/@me", None),
            ("http://host?mail=a@b", None),
            ("someone@example.org", None),
            ("ünï@://x", None),
        ];
        for (text, expected) in table {
            assert_eq!(without_user_info(text).as_deref(), expected, "{text}");
        }
    }
}
