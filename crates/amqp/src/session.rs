//! The protocol's state: how far the connection has come, what was agreed upon, and its channels.

use std::time::Duration;

use crate::channel::{Channel, Taken};
use crate::error::{Error, Phase};
use crate::event::Event;
use crate::frame::{self, CONNECTION, Frame};
use crate::login::Login;
use crate::method::{self, Method, MethodId};
use crate::output::Output;
use crate::pulse::Pulse;
use crate::reply::Refusal;
use crate::request::{NotSent, put_bare, put_open, put_start_ok, put_tune_ok};
use crate::text::Text;

/// What a client may ask for: RabbitMQ hangs up at more channels.
const MOST_CHANNELS: u16 = 2047;

#[derive(Debug)]
pub(crate) struct Session {
    phase: Phase,
    /// Until the connection is open.
    login: Option<Login>,
    channel_max: u16,
    /// By their numbers, from 1.
    channels: Vec<Option<Channel>>,
}

impl Session {
    pub(crate) fn new(login: Login) -> Session {
        Session { phase: Phase::Greeting, login: Some(login), channel_max: 0, channels: Vec::new() }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// Whether nothing that comes counts any more.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closed | Phase::Failed)
    }

    /// Whether channels can be used.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// The connection failed, unless it is closed, which is as it should be.
    pub(crate) fn fail(&mut self) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Failed;
        }
        self.login = None;
    }

    /// A channel that nobody has opened, or that was closed.
    pub(crate) fn add_channel(&mut self, number: u16) -> Result<&mut Channel, NotSent> {
        if !self.is_open() {
            return Err(NotSent::ConnectionIsNotOpen);
        }
        if number == CONNECTION || number > self.channel_max {
            return Err(NotSent::NoSuchChannel);
        }
        let number = usize::from(number);
        if self.channels.len() < number {
            self.channels.resize_with(number, || None);
        }
        match &mut self.channels[number - 1] {
            Some(_) => Err(NotSent::ChannelIsTaken),
            place => Ok(place.insert(Channel::new(number as u16))),
        }
    }

    /// The channel with this number, if there is one.
    pub(crate) fn channel(&mut self, number: u16) -> Option<&mut Channel> {
        self.channels.get_mut(usize::from(number).checked_sub(1)?)?.as_mut()
    }

    /// The channel, if something may be said on it.
    pub(crate) fn open_channel(&mut self, number: u16) -> Option<&mut Channel> {
        if !self.is_open() {
            return None;
        }
        self.channel(number).filter(|channel| channel.is_open())
    }

    fn remove_channel(&mut self, number: u16) {
        if let Some(place) = self.channels.get_mut(usize::from(number).wrapping_sub(1)) {
            *place = None;
        }
    }

    /// A frame came.
    pub(crate) fn take<'a>(
        &mut self,
        frame: Frame<'a>,
        output: &mut Output,
        pulse: &mut Pulse,
    ) -> Result<Taken<'a>, Error> {
        let Frame { kind, channel: number, payload } = frame;
        if kind == frame::HEARTBEAT {
            let is_right = number == CONNECTION;
            return if is_right { Ok(Taken::Nothing) } else { Err(Error::WrongChannel(number)) };
        }
        if number == CONNECTION {
            if kind != frame::METHOD {
                return Err(Error::StrayContent);
            }
            let (id, method) = method::parse(payload)?;
            return self.take_on_connection(id, method, output, pulse);
        }
        let Some(channel) = self.channel(number).filter(|channel| !channel.is_lost()) else {
            return Err(Error::WrongChannel(number));
        };
        match kind {
            frame::BODY => channel.take_body(payload),
            frame::HEADER => channel.take_header(payload),
            _ => {
                let (id, method) = method::parse(payload)?;
                if id.class == method::CONNECTION {
                    Err(Error::WrongChannel(number))
                } else if channel.is_in_message() {
                    Err(Error::MessageCutShort(id))
                } else {
                    self.take_on_channel(number, id, method, payload, output)
                }
            }
        }
    }

    fn take_on_channel<'a>(
        &mut self,
        number: u16,
        id: MethodId,
        method: Method<'a>,
        payload: &[u8],
        output: &mut Output,
    ) -> Result<Taken<'a>, Error> {
        let Some(channel) = self.channel(number) else { return Err(Error::WrongChannel(number)) };
        match method {
            Method::ChannelClose(refusal) => {
                if channel.take_refusal(output) {
                    self.remove_channel(number);
                } else if channel.is_closing() {
                    return Ok(Taken::Nothing);
                }
                Ok(Taken::Event(Event::ChannelRefused { channel: number, refusal }))
            }
            Method::ChannelCloseOk if channel.is_closing() => {
                self.remove_channel(number);
                Ok(Taken::Event(Event::ChannelClosed { channel: number }))
            }
            _ => channel.take_method(id, method, payload, output),
        }
    }

    fn take_on_connection<'a>(
        &mut self,
        id: MethodId,
        method: Method<'a>,
        output: &mut Output,
        pulse: &mut Pulse,
    ) -> Result<Taken<'a>, Error> {
        let event = match (self.phase, method) {
            (_, Method::Close(refusal)) => return Err(self.agree_to_close(refusal, output)),
            (Phase::Greeting, Method::Start { server_properties, mechanisms }) => {
                self.log_in(mechanisms, output)?;
                Event::Greeted { server_properties, mechanisms }
            }
            (Phase::LoggingIn, Method::Secure) => return Err(Error::Challenge),
            (Phase::LoggingIn, Method::Tune { channel_max, frame_max, heartbeat }) => {
                let heartbeat = self.tune(channel_max, frame_max, heartbeat, output)?;
                pulse.set_interval(Duration::from_secs(heartbeat.into()));
                return Ok(Taken::Nothing);
            }
            (Phase::Opening, Method::OpenOk) => {
                self.phase = Phase::Open;
                self.login = None;
                pulse.forget_deadline();
                Event::Ready
            }
            (Phase::Open | Phase::Closing, Method::Blocked { reason }) => Event::Blocked { reason },
            (Phase::Open | Phase::Closing, Method::Unblocked) => Event::Unblocked,
            (Phase::Closing, Method::CloseOk) => {
                self.phase = Phase::Closed;
                Event::Closed
            }
            _ if id.class != method::CONNECTION => return Err(Error::WrongChannel(CONNECTION)),
            _ => return Err(Error::Unexpected(id)),
        };
        Ok(Taken::Event(event))
    }

    /// The broker closes the connection.
    fn agree_to_close(&mut self, refusal: Refusal<'_>, output: &mut Output) -> Error {
        let phase = self.phase;
        output.abandon_message();
        put_bare(output.bytes(), CONNECTION, method::CLOSE_OK);
        self.phase = Phase::Closed;
        let Refusal { code, text, method } = refusal;
        Error::Closed { phase, code, text: text.to_string(), method }
    }

    /// Answers `connection.start`.
    fn log_in(&mut self, mechanisms: Text<'_>, output: &mut Output) -> Result<(), Error> {
        let Some(login) = &self.login else { return Err(Error::Unexpected(method::START)) };
        let mechanism = login.credentials.mechanism();
        let mut offered = mechanisms.as_bytes().split(|&byte| byte == b' ');
        if !offered.any(|offered| offered == mechanism.as_bytes()) {
            return Err(Error::MechanismNotOffered(mechanisms.to_string()));
        }
        let properties = login.all_properties();
        let response = login.credentials.response();
        let before = output.bytes().len();
        put_start_ok(output.bytes(), properties.as_table(), mechanism, response.as_bytes());
        let size = output.bytes().len() - before;
        if size > frame::SMALLEST {
            output.bytes().truncate(before);
            return Err(Error::LoginTooLarge(size));
        }
        self.phase = Phase::LoggingIn;
        Ok(())
    }

    /// Answers `connection.tune`, and opens the virtual host. Of two limits the lower one holds; 0 is none. The
    /// heartbeat that was agreed upon.
    fn tune(
        &mut self,
        channel_max: u16,
        frame_max: u32,
        heartbeat: u16,
        output: &mut Output,
    ) -> Result<u16, Error> {
        let Some(login) = &self.login else { return Err(Error::Unexpected(method::TUNE)) };
        fn lower<T: Ord + Default>(theirs: T, ours: T) -> T {
            if theirs == T::default() { ours } else { theirs.min(ours) }
        }
        let ours = login.frame_max.clamp(frame::SMALLEST_OF_OURS as u32, frame::LARGEST as u32);
        let frame_max = lower(frame_max, ours);
        if frame_max < frame::SMALLEST as u32 {
            return Err(Error::FramesTooSmall(frame_max));
        }
        let channel_max = lower(channel_max, login.channel_max.clamp(1, MOST_CHANNELS));
        let heartbeat = match login.heartbeat {
            0 => heartbeat,
            ours => lower(heartbeat, ours),
        };
        output.set_frame_max(frame_max as usize);
        self.channel_max = channel_max;
        put_tune_ok(output.bytes(), channel_max, frame_max, heartbeat);
        put_open(output.bytes(), &login.virtual_host);
        self.phase = Phase::Opening;
        Ok(heartbeat)
    }
}
