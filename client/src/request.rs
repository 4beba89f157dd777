//! Request ids. A command's id says which command it was, so that answers need no table; all others are counted.
//!
//! Bit 52: a command. Then 24 bits of conversation index, 12 of flight, 16 of the command number's low end. A *flight*
//! is one pass over a conversation's outbox: it ends when the commands are sent again from an earlier one. Ids never
//! outlive a connection.

use tidegate_ids::CommandNumber;

pub(crate) const CONVERSATION_BITS: u32 = 24;
const FLIGHT_BITS: u32 = 12;
const NUMBER_BITS: u32 = 16;
const COMMAND: u64 = 1 << (CONVERSATION_BITS + FLIGHT_BITS + NUMBER_BITS);

/// Of frames that have no answer: an error under this id is told to nobody. Far above what is ever counted to.
pub(crate) const NO_ANSWER: u64 = COMMAND - 1;

/// Flights are counted modulo this.
pub(crate) const FLIGHTS: u16 = 1 << FLIGHT_BITS;

const _: () = assert!(COMMAND * 2 - 1 <= tidegate_ids::INTEGER_MAX);

/// What an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Command { conversation: usize, flight: u16, number_low: u16 },
    Other(u64),
}

pub(crate) const fn command_id(conversation: usize, flight: u16, number: CommandNumber) -> u64 {
    debug_assert!(conversation < 1 << CONVERSATION_BITS && flight < FLIGHTS);
    COMMAND
        | (conversation as u64) << (FLIGHT_BITS + NUMBER_BITS)
        | (flight as u64) << NUMBER_BITS
        | (number.0 & ((1 << NUMBER_BITS) - 1))
}

pub(crate) const fn asked(id: u64) -> Asked {
    if id & COMMAND == 0 {
        return Asked::Other(id);
    }
    Asked::Command {
        conversation: ((id & (COMMAND - 1)) >> (FLIGHT_BITS + NUMBER_BITS)) as usize,
        flight: (id >> NUMBER_BITS) as u16 & (FLIGHTS - 1),
        number_low: id as u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_what_went_into_it() {
        for (conversation, flight, number) in [(0, 0, 1), (77, 4095, 65_536 + 9), ((1 << 24) - 1, 1, 3)] {
            let id = command_id(conversation, flight, CommandNumber(number));
            let number_low = number as u16;
            assert_eq!(asked(id), Asked::Command { conversation, flight, number_low });
        }
        assert_eq!(asked(12), Asked::Other(12));
    }
}
