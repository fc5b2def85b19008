//! Tables as podman prints them: columns padded with blanks.

use std::io::{self, Write};

use cstor_client::Escaped;

/// Prints lines with their columns aligned; names come from images and are escaped.
pub(crate) fn print<const COLUMNS: usize>(out: &mut dyn Write, lines: &[[String; COLUMNS]]) -> io::Result<()> {
    let shown: Vec<[String; COLUMNS]> =
        lines.iter().map(|line| line.each_ref().map(|cell| Escaped(cell.as_bytes()).to_string())).collect();
    let mut widths = [0; COLUMNS];
    for line in &shown {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for line in &shown {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}
