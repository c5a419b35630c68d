//! Java's property files and `key=value` arguments, for librdkafka.

use std::path::Path;

use rdkafka::ClientConfig;

use super::fault::Fault;

/// Of Java's clients only, without a meaning for librdkafka: said on stderr and left out.
const OF_JAVA: [&str; 9] = [
    "key.serializer",
    "value.serializer",
    "key.deserializer",
    "value.deserializer",
    "buffer.memory",
    "max.block.ms",
    "max.poll.records",
    "metadata.max.idle.ms",
    "interceptor.classes",
];

/// `key=value` lines; `#` and `!` begin comments.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, String)>, Fault> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::Usage(format!("{}: {error}", path.display())))?;
    let lines = text.lines().map(str::trim);
    let pairs = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    pairs.map(pair).collect()
}

pub(crate) fn pair(text: &str) -> Result<(String, String), Fault> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        Some(_) | None => Err(Fault::Usage(format!("Invalid property '{text}': write it as key=value"))),
    }
}

/// A tool's own: what would make it speak something else than plaintext is refused, the rest is for clients.
pub(crate) fn check(path: Option<&Path>) -> Result<(), Fault> {
    let Some(path) = path else { return Ok(()) };
    for (key, value) in read(path)? {
        if key == "security.protocol" && !value.eq_ignore_ascii_case("PLAINTEXT") {
            return Err(Fault::Usage(format!("security.protocol={value} is not supported: PLAINTEXT is")));
        }
    }
    Ok(())
}

/// A file's properties, then those of the command line, which win.
pub(crate) fn apply(
    config: &mut ClientConfig,
    file: Option<&Path>,
    properties: &[String],
) -> Result<(), Fault> {
    check(file)?;
    let of_file = file.map(read).transpose()?.unwrap_or_default();
    let of_line = properties.iter().map(|text| pair(text)).collect::<Result<Vec<_>, _>>()?;
    for (key, value) in of_file.into_iter().chain(of_line) {
        if OF_JAVA.contains(&key.as_str()) {
            eprintln!("WARN: {key} means nothing to this client and is left out");
        } else {
            config.set(key, value);
        }
    }
    Ok(())
}
