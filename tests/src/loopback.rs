//! A block of loopback addresses that nobody else uses, so that many waypoints can each have port 15008.

use std::{
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

use anyhow::{Context, Result, bail};

/// The block that manifests are written with: `127.10.0.11`, `127.10.0.111` and so on.
pub const PLACEHOLDER: &str = "127.10.0.";

/// The host and port whose listener is the claim on a block. No manifest may use the host.
const CLAIM: (u8, u16) = (254, 15099);

/// A claimed block `127.A.B.0/24`. The claim ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct Loopback {
    block: (u8, u8),
    _claim: TcpListener,
}

impl Loopback {
    /// Claims a block at random. The claim is a listening socket: it cannot be left behind by a crash.
    pub fn claim() -> Result<Self> {
        let mut last = None;
        for _ in 0..64 {
            let [a, b, ..] = random().to_le_bytes();
            // 127.0 is the machine's own and 127.10 the manifests' placeholder.
            let block = (64 + a % 160, b);
            let (host, port) = CLAIM;
            match TcpListener::bind((Ipv4Addr::new(127, block.0, block.1, host), port)) {
                Ok(claim) => return Ok(Self { block, _claim: claim }),
                Err(error) => last = Some(error),
            }
        }
        bail!(
            "no free block of loopback addresses after 64 tries ({}); on Linux all of 127.0.0.0/8 can be \
             bound, elsewhere add aliases to the loopback interface",
            last.map(|error| error.to_string()).unwrap_or_default()
        )
    }

    /// The address of the block that ends in `host`.
    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.block.0, self.block.1, host)
    }

    /// `text` with every address of the placeholder block moved to this block.
    pub fn localize(&self, text: &str) -> String {
        text.replace(PLACEHOLDER, &self.prefix())
    }

    /// The block as it begins every address in it, such as `127.99.3.`.
    pub fn prefix(&self) -> String {
        format!("127.{}.{}.", self.block.0, self.block.1)
    }

    /// Copies the directory `from` to `to`, subdirectories too, every file localized.
    pub fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
        let entries = fs::read_dir(from).with_context(|| format!("reading {}", from.display()))?;
        for entry in entries {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.copy(&entry.path(), &target)?;
            } else {
                let text = fs::read_to_string(entry.path())
                    .with_context(|| format!("reading {}", entry.path().display()))?;
                fs::write(&target, self.localize(&text))
                    .with_context(|| format!("writing {}", target.display()))?;
            }
        }
        Ok(())
    }
}

/// A number that differs from run to run: the standard library seeds its hash maps from the system.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_claimed_once_and_free_again_afterwards() {
        let block = Loopback::claim().unwrap();
        let (host, port) = CLAIM;
        let address = (block.address(host), port);
        assert!(TcpListener::bind(address).is_err(), "a second claim on the block succeeded");
        drop(block);
        TcpListener::bind(address).unwrap();
    }

    #[test]
    fn only_the_placeholder_block_moves() {
        let block = Loopback::claim().unwrap();
        let moved = block.localize("podIP: 127.10.0.11 # not 127.10.1.11 nor 10.10.0.11");
        assert_eq!(moved, format!("podIP: {} # not 127.10.1.11 nor 10.10.0.11", block.address(11)));
    }
}
