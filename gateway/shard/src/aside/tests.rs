use super::*;

fn aside(held_bytes_max: usize, echo: bool) -> Aside {
    Aside::new(&ShardLimits { held_bytes_max, echo, ..ShardLimits::default() })
}

#[test]
fn what_one_share_holds_is_not_taken_from_the_other() {
    let mut aside = aside(1000, false);
    aside.add(Share::Strangers, 250);
    assert_eq!((aside.spare_bytes(Share::Strangers), aside.spare_bytes(Share::Devices)), (0, 750));
    aside.add(Share::Devices, 750);
    assert_eq!(aside.held_bytes(), 1000);
    aside.remove(Share::Strangers, 50);
    assert_eq!((aside.spare_bytes(Share::Strangers), aside.spare_bytes(Share::Devices)), (50, 0));
}

#[test]
fn where_echo_is_served_strangers_have_half() {
    assert_eq!(aside(1000, true).spare_bytes(Share::Strangers), 500);
}

#[test]
fn place_is_made_by_doubling_up_to_what_is_needed_and_allowed() {
    let check = |len: usize, additional, (needed_max, allowed_max), expected: Option<usize>| {
        let mut held = Vec::with_capacity(len);
        held.extend(std::iter::repeat_n(7, len));
        let grown = grow(&mut held, additional, needed_max, allowed_max);
        assert_eq!(grown.then(|| held.capacity()), expected, "{len} and {additional}");
        assert_eq!(held, vec![7; len]);
    };
    check(0, 10, (100, 1000), Some(10));
    check(10, 1, (100, 1000), Some(20));
    check(10, 15, (100, 1000), Some(25));
    check(80, 1, (100, 1000), Some(100));
    check(80, 1, (100, 90), Some(90));
    check(80, 10, (100, 90), Some(90));
    check(80, 11, (100, 90), None);
    check(0, 1, (100, 0), None);
}
