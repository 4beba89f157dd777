use super::*;

fn origin() -> Origin {
    Origin {
        user: UserId(1),
        device: DeviceId(2),
        generation: Generation(3),
        request: RequestId(4),
        index: 5,
    }
}

fn check_request(request: Request<'_>) {
    let mut frame = Vec::new();
    let rest = request.encode(&mut frame);
    frame.extend_from_slice(rest);
    assert_eq!(Request::decode(&frame), Some(request));
    assert_eq!(Request::decode(&frame[..10]), None);
}

fn check_outcome(outcome: Outcome<'_>) {
    let mut frame = Vec::new();
    let rest = outcome.encode(&mut frame);
    frame.extend_from_slice(rest);
    assert_eq!(Outcome::decode(&frame), Some(outcome));
}

const CONVERSATION: ConversationId = ConversationId([0x81; 16]);
const CLIENT: ClientId = ClientId([7; 16]);

#[test]
fn every_request_survives_the_mesh() {
    let users = UserList(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(users.iter().collect::<Vec<_>>(), [UserId(1), UserId(2)]);
    let (origin, conversation, number) = (origin(), CONVERSATION, CommandNumber(9));
    check_request(Request::Send {
        origin,
        conversation,
        number,
        client_id: CLIENT,
        countable: true,
        message: b"hello",
    });
    check_request(Request::Drain { origin, conversation, from: Sequence(8) });
    for span in [Span::Before(Sequence(3)), Span::After(Sequence(4)), Span::Between(Sequence(5), Sequence(6))]
    {
        check_request(Request::Range { origin, conversation, span, limit: 50 });
    }
    check_request(Request::Create { origin, conversation, client_id: CLIENT, name: b"crew", users });
    for command in [
        MemberCommand::Add { version: Sequence(2), users },
        MemberCommand::Remove { version: Sequence(2), users },
        MemberCommand::Leave,
    ] {
        check_request(Request::Members { origin, conversation, number, client_id: CLIENT, command });
    }
    check_request(Request::MembersGet { origin, conversation, after: UserId(3), limit: 10 });
    check_request(Request::Row { origin, conversation });
    check_request(Request::HandOver {
        key: TransferKey(77),
        origin,
        attempt: Attempt(6),
        credit: 256,
        active: true,
        unlimited: true,
        expires: WallMs(99),
        version: 1,
        leftover: b"rest",
    });
}

#[test]
fn every_outcome_survives_the_mesh() {
    let users = UserList(&[1, 0, 0, 0, 0, 0, 0, 0]);
    let (origin, conversation) = (origin(), CONVERSATION);
    let author = Author { user: UserId(1), device: DeviceId(2) };
    for (recipients, effect) in [
        (Recipients::Sliced, Effect::Left(users)),
        (Recipients::Listed(users), Effect::None),
        (Recipients::Listed(users), Effect::Joined(users)),
    ] {
        check_outcome(Outcome::Record(Shipped {
            position: Position::new(3, 4096),
            conversation,
            sequence: Sequence(12),
            author,
            recipients,
            effect,
            stored: b"stamp and message",
        }));
    }
    let interval = tidegate_domain::Interval { joined: Sequence(3), left: Some(Sequence(9)) };
    let member = Member { user: UserId(5), interval };
    let mut stays = Vec::new();
    write_stay(&mut stays, &member);
    assert_eq!(stays.len(), STAY_BYTES);
    assert_eq!(Stays(&stays).iter().collect::<Vec<_>>(), [member]);
    check_outcome(Outcome::Slice { conversation, first: true, stays: Stays(&stays) });
    check_outcome(Outcome::SliceDrop { conversation });
    check_outcome(Outcome::Position(Position::new(2, 512)));
    check_outcome(Outcome::RefeedDone);
    check_outcome(Outcome::Reply { origin, class: ReplyClass::Range, frame: b"frame" });
    let answer = Answer { conversation, from: Sequence(3), covered: Sequence(66), complete: false };
    check_outcome(Outcome::Answer { origin, answer, dirty: true, records: b"records" });
    let row = Row {
        head: Sequence(4),
        last_number: CommandNumber(2),
        last_activity: WallMs(3),
        joined: Sequence(1),
    };
    check_outcome(Outcome::Row { origin, conversation, row: Some(row) });
    check_outcome(Outcome::Row { origin, conversation, row: None });
}
