//! Many small files at once.

use super::FakeHost;
use std::sync::atomic::Ordering::SeqCst;
use wormhole::rpc::{Sink, SinkClosed};
use wormhole_protocol::codec::Wire;
use wormhole_protocol::*;

impl FakeHost {
    pub(super) async fn send_many(
        &self,
        dir: &NodeRef,
        files: &[FileWanted],
        sink: &mut dyn Sink,
    ) -> Result<(), SinkClosed> {
        let attr = match self.find(dir) {
            Ok(dir) => dir.attr,
            Err(fault) => return sink.reply(Reply::Fault(fault)).await,
        };
        sink.reply(Reply::Many(attr)).await?;
        let (short_by, held) = {
            let m = self.misbehaviour.lock().unwrap();
            (m.short_by, m.hold_bulk)
        };
        for wanted in files {
            let path = dir.path.join(&wanted.name).unwrap();
            let expect = wanted.known.map(|known| known.file);
            let found = self.find(&NodeRef { path, expect });
            let found = found.and_then(|file| match wanted.known {
                Some(known) if known.version != file.attr.version => Err(Fault::Changed),
                _ => Ok(file),
            });
            let (frame, bytes) = match found {
                Ok(file) => {
                    let len = file.attr.size - short_by;
                    let attr = wanted.known.is_none().then_some(file.attr);
                    let len = u32::try_from(len).unwrap();
                    let bytes = file.piece(0, len as usize);
                    (FileFrame::Content { attr, len }, Some(bytes))
                }
                Err(fault) => (FileFrame::Not(fault), None),
            };
            sink.send(frame.to_frame().unwrap().into()).await?;
            if let Some(piece) = bytes {
                if held {
                    self.gate.acquire().await.unwrap().forget();
                }
                let len = piece.len() as u64;
                sink.send(piece).await?;
                self.sent.fetch_add(len, SeqCst);
            }
        }
        Ok(())
    }
}
