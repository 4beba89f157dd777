//! What arrives at a client, owned.

use tidegate_schema::{Frame, FrameHeader, ServerFrame};

/// A frame from the gateway.
#[derive(Clone, Debug)]
pub struct OwnedFrame {
    /// What stands before the body.
    pub header: FrameHeader,
    /// The body.
    pub body: Vec<u8>,
}

impl OwnedFrame {
    /// What it says.
    #[must_use]
    #[track_caller]
    pub fn read(&self) -> ServerFrame<'_> {
        let frame = Frame { header: self.header, body: &self.body };
        match ServerFrame::decode(&frame) {
            Ok(said) => said,
            Err(error) => panic!("a frame that does not decode: {error}, {:?}", self.header),
        }
    }
}

/// What arrives.
#[derive(Clone, Debug)]
pub enum Arrived {
    /// A frame.
    Frame(OwnedFrame),
    /// A close frame, with its code.
    Closed(Option<u16>),
    /// The end of the socket, by whatever cause.
    Ended,
}
