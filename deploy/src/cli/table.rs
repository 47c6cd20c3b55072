//! Rows of text in columns, as kubectl prints them.

use std::io::{self, Write};

/// Between two columns.
const GAP: usize = 3;

/// Prints a line of `titles` and a line for each of the rows. A cell that is empty is a dash, so that every
/// line has as many words for a script; the last column may hold anything.
pub(super) fn print<const COLUMNS: usize>(
    titles: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut lines = vec![titles.map(str::to_owned)];
    lines.extend(rows);
    for cell in lines.iter_mut().flatten().filter(|cell| cell.is_empty()) {
        cell.push('-');
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    for line in &lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(widths) {
            text.extend(cell.chars().map(|letter| if letter.is_control() { ' ' } else { letter }));
            text.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count()));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_they_hold() {
        let mut out = Vec::new();
        let rows = [["a", "long one", "x"], ["", "b", "say \"no\"\nmore"]];
        print(["NAME", "B", "WORDS"], rows.map(|row| row.map(str::to_owned)), &mut out).unwrap();
        let expected = "NAME   B          WORDS\na      long one   x\n-      b          say \"no\" more\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
