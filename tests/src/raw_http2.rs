//! One HTTP/2 request written by hand: no client library sends a path that is not text.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The types of frames that we read or write (RFC 9113, section 6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// The flags of a request in one frame: it ends the stream and the headers.
const WHOLE: u8 = 0x1 | 0x4;
/// The flag of settings that were taken.
const ACK: u8 = 0x1;

/// Sends a GET of `path` and waits for the answer, or for the end of a request that is none.
pub async fn get<S>(mut stream: S, authority: &str, path: &[u8]) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // `:method: GET` and `:scheme: http` of the static table, then two literals that nobody remembers.
    let mut block = vec![0x82, 0x86];
    for (index, value) in [(1, authority.as_bytes()), (4, path)] {
        let length = u8::try_from(value.len()).ok().filter(|length| *length < 127);
        block.extend([index, length.context("longer than one byte says")?]);
        block.extend_from_slice(value);
    }
    stream.write_all(PREFACE).await?;
    write(&mut stream, SETTINGS, 0, 0, &[]).await?;
    write(&mut stream, HEADERS, WHOLE, 1, &block).await?;
    loop {
        let (kind, flags, id) = read(&mut stream).await?;
        match (kind, id) {
            (SETTINGS, _) if flags & ACK == 0 => write(&mut stream, SETTINGS, ACK, 0, &[]).await?,
            (HEADERS | RST_STREAM, 1) | (GOAWAY, _) => return Ok(()),
            _ => {}
        }
    }
}

async fn write<S>(stream: &mut S, kind: u8, flags: u8, id: u32, payload: &[u8]) -> Result<()>
where
    S: AsyncWrite + Unpin,
{
    let length = u32::try_from(payload.len())?.to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(id.to_be_bytes());
    frame.extend_from_slice(payload);
    stream.write_all(&frame).await?;
    Ok(stream.flush().await?)
}

/// The type, the flags and the stream of the next frame.
async fn read<S>(stream: &mut S) -> Result<(u8, u8, u32)>
where
    S: AsyncRead + Unpin,
{
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [a, b, c, kind, flags, id @ ..] = head;
    let length = u32::from_be_bytes([0, a, b, c]);
    ensure!(length <= 1 << 16, "a frame of {length} bytes");
    let mut payload = vec![0; usize::try_from(length)?];
    stream.read_exact(&mut payload).await?;
    Ok((kind, flags, u32::from_be_bytes(id) & 0x7fff_ffff))
}
