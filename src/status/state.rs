//! What the worker is doing, in one word. Pure.

/// What the worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No worker runs.
    Stopped = 0,
    /// The worker looks for its position.
    Starting = 1,
    /// It tries to reach the broker.
    Connecting = 2,
    /// It publishes, or would if there were something to publish.
    Streaming = 3,
    /// The stream stands still; the reason says why.
    StandingStill = 4,
    /// Reading the WAL cannot go on, or the worker failed and will be started again. The reason or the last
    /// error says why.
    Stuck = 5,
    /// Events were lost with their WAL, and the consumers are not told so yet.
    Lost = 6,
    /// The server is a standby: nothing is published, the reason says whether the stream could be taken over.
    Standby = 7,
}

impl State {
    /// The word for it in `amqp.status`.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Starting => "starting",
            State::Connecting => "connecting",
            State::Streaming => "streaming",
            State::StandingStill => "standing still",
            State::Stuck => "stuck",
            State::Lost => "lost",
            State::Standby => "standby",
        }
    }

    /// The inverse of `as u8`.
    pub fn from_number(number: u8) -> State {
        match number {
            1 => State::Starting,
            2 => State::Connecting,
            3 => State::Streaming,
            4 => State::StandingStill,
            5 => State::Stuck,
            6 => State::Lost,
            7 => State::Standby,
            _ => State::Stopped,
        }
    }
}
