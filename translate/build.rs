//! Hashes the sources that decide what a resource looks like, as a salt for every version.
//!
//! A version is the hash of a row. Were the code that emits resources to change while the row stays
//! the same, a proxy would keep what the old code emitted; with the salt it gets everything anew.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let mut files = Vec::new();
    for folder in ["src", "../proto/src"] {
        println!("cargo::rerun-if-changed={folder}");
        collect(Path::new(folder), &mut files)?;
    }
    files.sort();
    let mut salt = 0;
    for file in files {
        salt =
            rapidhash::v3::rapidhash_v3_seeded(&fs::read(&file)?, &rapidhash::v3::RapidSecrets::seed(salt));
    }
    println!("cargo::rustc-env=PORTOLAN_EMIT_SALT={salt}");
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
