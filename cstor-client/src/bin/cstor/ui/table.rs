//! Tables as podman prints them: columns padded with blanks.

use std::io::{self, Write};

use cstor_client::Escaped;

/// Prints lines with their columns aligned; names come from images and are escaped.
pub(crate) fn print(out: &mut dyn Write, lines: &[impl AsRef<[String]>]) -> io::Result<()> {
    let escape = |line: &[String]| line.iter().map(|cell| Escaped(cell.as_bytes()).to_string()).collect();
    let shown: Vec<Vec<String>> = lines.iter().map(|line| escape(line.as_ref())).collect();
    let mut widths: Vec<usize> = Vec::new();
    for line in &shown {
        widths.resize(widths.len().max(line.len()), 0);
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for line in &shown {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}
