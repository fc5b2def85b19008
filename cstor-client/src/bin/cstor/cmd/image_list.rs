//! `cstor image list`.

use std::collections::HashSet;
use std::io::Write;

use cstor_client::listing::{self, Listed};
use serde::Serialize;

use super::open_store;
use crate::args::{Format, ListImages, Store};
use crate::exit::Failure;
use crate::ui::{age, json, short, size, table};

#[derive(Serialize)]
struct Listing {
    schema: u32,
    images: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: String,
    names: Vec<String>,
    digest: Option<String>,
    created: Option<String>,
    /// In bytes.
    size: u64,
    shared_size: u64,
    unique_size: u64,
    dangling: bool,
    intermediate: bool,
}

pub(crate) fn run(store: &Store, args: &ListImages, out: &mut dyn Write) -> Result<(), Failure> {
    let storage = open_store(store)?;
    let images = listing::list(&storage, args.all, &args.filter)?;
    if args.output.format == Format::Json {
        let images = images.iter().map(row).collect();
        return Ok(json::print(out, &Listing { schema: json::SCHEMA, images })?);
    }
    // Locked for each line, 4,000 of them take longer than all else.
    let mut text = Vec::new();
    if args.output.quiet {
        // The same image in two stores has one id.
        let mut seen = HashSet::new();
        for image in images.iter().map(|listed| listed.image().id()).filter(|&id| seen.insert(id)) {
            writeln!(text, "{}", short(&image.to_string(), args.output.no_trunc))?;
        }
        return Ok(out.write_all(&text)?);
    }
    let mut lines = vec![heading(args)];
    for listed in &images {
        for (repository, tag) in names(listed.image().names()) {
            lines.push(line(listed, repository, tag, args));
        }
    }
    table::print(&mut text, &lines)?;
    Ok(out.write_all(&text)?)
}

fn heading(args: &ListImages) -> Vec<String> {
    let mut titles = vec!["REPOSITORY", "TAG"];
    titles.extend(args.digests.then_some("DIGEST"));
    titles.extend(["IMAGE ID", "CREATED", "SIZE"]);
    titles.extend(args.sizes.then_some(["SHARED SIZE", "UNIQUE SIZE"]).into_iter().flatten());
    titles.into_iter().map(str::to_owned).collect()
}

fn line(listed: &Listed, repository: &str, tag: &str, args: &ListImages) -> Vec<String> {
    let image = listed.image();
    let mut cells = vec![repository.to_owned(), tag.to_owned()];
    cells.extend(args.digests.then(|| image.digest().map_or_else(|| "<none>".to_owned(), |digest| digest.to_string())));
    cells.push(short(&image.id().to_string(), args.output.no_trunc).to_owned());
    cells.extend([age(listed.created()), size(listed.size())]);
    if args.sizes {
        cells.extend([size(listed.shared_size()), size(listed.unique_size())]);
    }
    cells
}

/// One line for each name with a tag; for an image without one, a single line (podman's images/list.go, `sortImages`).
fn names(names: &[String]) -> Vec<(&str, &str)> {
    const NONE: &str = "<none>";
    let split = |name: &'_ String| -> (usize, bool) {
        let file = name.rfind('/').map_or(0, |slash| slash + 1);
        let suffix = name.get(file..).and_then(|file| file.find([':', '@'])).map_or(name.len(), |at| file + at);
        (suffix, name.get(suffix..).is_some_and(|suffix| suffix.starts_with(':')))
    };
    let tagged = names.iter().filter_map(|name| match split(name) {
        (at, true) => Some((name.get(..at)?, name.get(at + 1..)?.split('@').next()?)),
        _ => None,
    });
    let tagged: Vec<_> = tagged.collect();
    match (tagged.is_empty(), names.first()) {
        (false, _) => tagged,
        (true, Some(name)) => vec![(name.get(..split(name).0).unwrap_or(name), NONE)],
        (true, None) => vec![(NONE, NONE)],
    }
}

fn row(listed: &Listed) -> Row {
    let image = listed.image();
    Row {
        id: image.id().to_string(),
        names: image.names().to_vec(),
        digest: image.digest().map(|digest| digest.to_string()),
        created: listed.created().map(str::to_owned),
        size: listed.size(),
        shared_size: listed.shared_size(),
        unique_size: listed.unique_size(),
        dangling: listed.is_dangling(),
        intermediate: listed.is_intermediate(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_tag() {
        for (given, lines) in [
            ("", "<none> <none>"),
            ("localhost/a:1 r:5000/b:2", "localhost/a 1, r:5000/b 2"),
            ("r:5000/b@sha256:0 localhost/a:1", "localhost/a 1"),
            ("r:5000/b@sha256:0", "r:5000/b <none>"),
        ] {
            let given: Vec<String> = given.split_whitespace().map(str::to_owned).collect();
            let shown: Vec<String> = names(&given).iter().map(|(name, tag)| format!("{name} {tag}")).collect();
            assert_eq!(shown.join(", "), lines);
        }
    }
}
