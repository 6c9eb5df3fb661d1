//! Programs of a few instructions, as bytes.

use anyhow::Result;
use rstest::rstest;

use super::instruction::decode;
use super::map::{Kind, Map, Shape};
use super::packet::{Arrival, Packet};
use super::{Jiffies, Outcome, Programs, World, run};

type Slot = [u8; 8];

/// Opcode, destination, source, offset, constant.
fn slot(code: u8, destination: u8, source: u8, offset: i16, constant: i32) -> Slot {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = constant.to_le_bytes();
    [code, source << 4 | destination, low, high, a, b, c, d]
}

const fn plain(code: u8, registers: u8) -> Slot {
    [code, registers, 0, 0, 0, 0, 0, 0]
}

const EXIT: Slot = plain(0x95, 0);

/// `lddw`
fn wide(register: u8, value: u64) -> [Slot; 2] {
    [
        slot(0x18, register, 0, 0, value as i32),
        slot(0, 0, 0, 0, (value >> 32) as i32),
    ]
}

const MAP: Shape = Shape {
    kind: Kind::Hash,
    key: 4,
    value: 8,
    entries: 2,
};

fn execute(main: &[Slot], other: &[Slot], maps: Vec<Map>) -> Result<Outcome> {
    let mut programs = Programs::new();
    programs.insert("main".to_owned(), decode(main)?.into());
    programs.insert("other".to_owned(), decode(other)?.into());
    let packet = Packet::new(Arrival::Xdp(3), &[0xaa; 64]);
    run(&programs, &mut World::default(), maps, "main", packet)
}

/// r0 of `instruction` with these in r0 and r1, by way of the stack, which has room for all of it.
fn result(instruction: Slot, left: u64, right: u64) -> u64 {
    let program = [
        &wide(0, left)[..],
        &wide(1, right),
        &[instruction, slot(0x7b, 10, 0, -8, 0), EXIT],
    ];
    let mut outcome = execute(&program.concat(), &[], Vec::new()).expect("a program that runs");
    assert_eq!((outcome.trace.len(), outcome.calls), (5, 0));
    let stack = super::memory::Memory::frame_end(0) - 8;
    let value = outcome.memory.load(stack, 8).expect("the stack");
    outcome.memory.store(stack, 8, 0).expect("the stack");
    assert_eq!(outcome.verdict, value as u32);
    value
}

const HIGH: u64 = 0xffff_fff0_8000_0001;

#[rstest]
#[case::add(0x0f, 0, HIGH, 2, HIGH + 2)]
#[case::add_half(0x0c, 0, HIGH, 2, 0x8000_0003)]
#[case::subtract(0x1f, 0, 1, 2, u64::MAX)]
#[case::subtract_half(0x1c, 0, 1, 2, 0xffff_ffff)]
#[case::multiply(0x2f, 0, 1 << 40, 1 << 30, 0)]
#[case::divide(0x3f, 0, HIGH, 16, HIGH / 16)]
#[case::divide_half(0x3c, 0, HIGH, 2, 0x4000_0000)]
#[case::divide_by_zero(0x3f, 0, HIGH, 0, 0)]
#[case::divide_signed(0x3f, 1, -9_i64 as u64, 2, -4_i64 as u64)]
#[case::divide_signed_half(0x3c, 1, -9_i32 as u32 as u64, 2, -4_i32 as u32 as u64)]
#[case::overflow(0x3f, 1, 1 << 63, u64::MAX, 1 << 63)]
#[case::modulo_zero(0x9f, 0, HIGH, 0, HIGH)]
#[case::modulo_zero_half(0x9c, 0, HIGH, 0, 0x8000_0001)]
#[case::modulo_signed(0x9f, 1, -9_i64 as u64, 2, -1_i64 as u64)]
#[case::or(0x4f, 0, 5, 3, 7)]
#[case::and(0x5f, 0, 5, 3, 1)]
#[case::xor(0xaf, 0, 5, 3, 6)]
#[case::shift(0x6f, 0, 1, 65, 2)]
#[case::shift_half(0x6c, 0, 1, 33, 2)]
#[case::shift_right(0x7f, 0, HIGH, 4, HIGH >> 4)]
#[case::shift_right_signed(0xcf, 0, HIGH, 4, HIGH >> 4 | 0xf << 60)]
#[case::shift_right_signed_half(0xcc, 0, HIGH, 4, 0xf800_0000)]
#[case::negate(0x87, 0, 1, 0, u64::MAX)]
#[case::negate_half(0x84, 0, 1, 0, 0xffff_ffff)]
#[case::copy(0xbf, 0, 0, HIGH, HIGH)]
#[case::copy_half(0xbc, 0, 0, HIGH, 0x8000_0001)]
#[case::copy_signed(0xbf, 32, 0, HIGH, 0xffff_ffff_8000_0001)]
#[case::copy_signed_byte(0xbc, 8, 0, 0x80, 0xffff_ff80)]
fn arithmetic(
    #[case] code: u8,
    #[case] offset: i16,
    #[case] left: u64,
    #[case] right: u64,
    #[case] expected: u64,
) {
    assert_eq!(result(slot(code, 0, 1, offset, 0), left, right), expected);
}

#[rstest]
#[case::big(0xdc, 16, 0x1122_3344, 0x4433)]
#[case::big_of_all(0xdc, 64, 0x1122_3344_5566_7788, 0x8877_6655_4433_2211)]
#[case::little(0xd4, 32, 0x1122_3344_5566_7788, 0x5566_7788)]
#[case::swap(0xd7, 32, 0x1122_3344_5566_7788, 0x8877_6655)]
fn byte_orders(#[case] code: u8, #[case] bits: i32, #[case] value: u64, #[case] expected: u64) {
    assert_eq!(result(slot(code, 0, 0, 0, bits), value, 0), expected);
}

/// A constant keeps its sign.
#[test]
fn constants_are_extended() {
    assert_eq!(result(slot(0x07, 0, 0, 0, -1), 5, 0), 4);
    assert_eq!(result(slot(0xb7, 0, 0, 0, -1), 5, 0), u64::MAX);
    assert_eq!(result(slot(0xb4, 0, 0, 0, -1), 5, 0), 0xffff_ffff);
}

#[rstest]
#[case::equal(0x1d, 5, 5, true)]
#[case::equal_half(0x1e, HIGH, 0x8000_0001, true)]
#[case::not_equal(0x5d, HIGH, 0x8000_0001, true)]
#[case::any_bit(0x4d, 5, 2, false)]
#[case::any_bit_half(0x4e, HIGH, 1 << 40, false)]
#[case::greater(0x2d, u64::MAX, 1, true)]
#[case::greater_signed(0x6d, u64::MAX, 1, false)]
#[case::greater_half(0x2e, HIGH, 1, true)]
#[case::greater_signed_half(0x6e, HIGH, 1, false)]
#[case::greater_or_equal(0x3d, 1, 1, true)]
#[case::less(0xad, 1, 1, false)]
#[case::less_or_equal(0xbd, 1, 1, true)]
#[case::less_signed(0xcd, u64::MAX, 0, true)]
#[case::less_or_equal_signed(0xdd, u64::MAX, u64::MAX, true)]
#[case::greater_or_equal_signed(0x7d, u64::MAX, 0, false)]
fn branches(#[case] code: u8, #[case] left: u64, #[case] right: u64, #[case] taken: bool) {
    let program = [
        &wide(0, left)[..],
        &wide(1, right),
        &[
            slot(code, 0, 1, 2, 0),
            slot(0xb7, 0, 0, 0, 0),
            EXIT,
            slot(0xb7, 0, 0, 0, 1),
            EXIT,
        ],
    ];
    let outcome = execute(&program.concat(), &[], Vec::new()).expect("a program that runs");
    assert_eq!(outcome.verdict, u32::from(taken));
    assert_eq!(outcome.trace.len(), 5);
}

/// What an atomic instruction leaves in memory, in r0 and in r1.
#[rstest]
#[case::add(0x00, 12, 5, 7)]
#[case::fetch_and_add(0x01, 12, 5, 5)]
#[case::or(0x40, 7, 5, 7)]
#[case::exchange(0xe1, 7, 5, 5)]
#[case::compare_and_exchange(0xf1, 7, 5, 7)]
fn atomics(#[case] code: i32, #[case] memory: u64, #[case] r0: u64, #[case] r1: u64) {
    let program = [
        slot(0x7a, 10, 0, -8, 5),
        slot(0xb7, 0, 0, 0, 5),
        slot(0xb7, 1, 0, 0, 7),
        slot(0xdb, 10, 1, -8, code),
        // memory × 1000 + r0 × 100 + r1
        slot(0x79, 2, 10, -8, 0),
        slot(0x27, 2, 0, 0, 1000),
        slot(0x27, 0, 0, 0, 100),
        slot(0x0f, 0, 2, 0, 0),
        slot(0x0f, 0, 1, 0, 0),
        EXIT,
    ];
    let outcome = execute(&program, &[], Vec::new()).expect("a program that runs");
    assert_eq!(u64::from(outcome.verdict), memory * 1000 + r0 * 100 + r1);
}

/// A function has a stack of its own, and gives back the registers that are its caller's.
#[test]
fn functions() {
    let program = [
        slot(0x7a, 10, 0, -8, 3),
        slot(0xb7, 6, 0, 0, 40),
        slot(0x85, 0, 1, 0, 3),
        slot(0x79, 1, 10, -8, 0),
        slot(0x0f, 6, 1, 0, 0),
        slot(0x05, 0, 0, 3, 0),
        slot(0x7a, 10, 0, -8, 9),
        slot(0xb7, 6, 0, 0, 0),
        EXIT,
        slot(0xbf, 0, 6, 0, 0),
        EXIT,
    ];
    let outcome = execute(&program, &[], Vec::new()).expect("a program that runs");
    assert_eq!((outcome.verdict, outcome.trace.len()), (43, 11));
}

/// Looks for the key 7 in the map; its value, or what the call returned if that was no pointer.
fn look_up() -> Vec<Slot> {
    vec![
        slot(0x62, 10, 0, -4, 7),
        slot(0xbf, 2, 10, 0, 0),
        slot(0x07, 2, 0, 0, -4),
        slot(0x18, 1, 1, 0, 0),
        plain(0, 0),
        slot(0x85, 0, 0, 0, 1),
        slot(0x15, 0, 0, 1, 0),
        slot(0x79, 0, 0, 0, 0),
        EXIT,
    ]
}

#[test]
fn a_look_up_is_one_call() {
    let mut map = Map::new("MAP", MAP);
    let outcome = execute(&look_up(), &[], vec![map.clone()]).expect("a program that runs");
    assert_eq!((outcome.verdict, outcome.trace.len()), (0, 7));
    let key = 7_u32.to_ne_bytes();
    map.update(&key, &99_u64.to_ne_bytes(), 0).expect("room");
    let outcome = execute(&look_up(), &[], vec![map]).expect("a program that runs");
    assert_eq!((outcome.verdict, outcome.calls), (99, 1));
    assert_eq!(outcome.trace.len(), 8);
}

#[test]
fn a_tail_call_does_not_return() -> Result<()> {
    let shape = Shape {
        kind: Kind::Programs,
        ..MAP
    };
    let jump = |index| {
        [
            slot(0x18, 2, 1, 0, 0),
            plain(0, 0),
            slot(0xb7, 3, 0, 0, index),
            slot(0x85, 0, 0, 0, 12),
            slot(0xb7, 0, 0, 0, 1),
            EXIT,
        ]
    };
    let other = [slot(0x61, 0, 1, 12, 0), EXIT];
    let mut map = Map::new("STAGES", shape);
    map.insert_program(5, "other");
    // The device, from the context that came along.
    let outcome = execute(&jump(5), &other, vec![map.clone()])?;
    assert_eq!((outcome.verdict, outcome.way.len()), (3, 2));
    let outcome = execute(&jump(4), &other, vec![map])?;
    assert_eq!((outcome.verdict, outcome.way.len()), (1, 1));
    Ok(())
}

#[rstest]
#[case::behind_the_packet(&[slot(0x61, 1, 1, 4, 0), slot(0x71, 0, 1, 0, 0), EXIT])]
#[case::in_front_of_it(&[slot(0x61, 1, 1, 0, 0), slot(0x71, 0, 1, -1, 0), EXIT])]
#[case::below_the_stack(&[slot(0x72, 10, 0, -513, 0), EXIT])]
#[case::nowhere(&[slot(0xb7, 1, 0, 0, 0), slot(0x71, 0, 1, 0, 0), EXIT])]
#[case::for_ever(&[slot(0x05, 0, 0, -1, 0)])]
#[case::off_the_end(&[slot(0xb7, 0, 0, 0, 0)])]
#[case::unknown_helper(&[slot(0x85, 0, 0, 0, 999), EXIT])]
fn what_the_verifier_would_refuse(#[case] program: &[Slot]) {
    assert!(execute(program, &[], Vec::new()).is_err());
}

#[test]
fn the_longest_prefix_is_found() -> Result<()> {
    let shape = Shape {
        kind: Kind::PrefixTree,
        key: 8,
        value: 1,
        entries: 8,
    };
    let key = |bits: u32, address: [u8; 4]| [bits.to_ne_bytes(), address].concat();
    let mut map = Map::new("CLIENTS", shape);
    for (bits, address, value) in [
        (0, [0; 4], 0),
        (8, [10, 0, 0, 0], 8),
        (20, [10, 1, 16, 0], 20),
        (32, [10, 1, 16, 1], 32),
    ] {
        map.update(&key(bits, address), &[value], 0)?;
    }
    for (bits, address, value) in [
        (32, [11, 0, 0, 1], 0),
        (32, [10, 1, 32, 1], 8),
        (32, [10, 1, 31, 1], 20),
        (32, [10, 1, 16, 1], 32),
        (31, [10, 1, 16, 1], 20),
    ] {
        let place = map.find(&key(bits, address))?;
        let found = place.and_then(|place| map.bytes(place, 0, 1));
        assert_eq!(found, Some(&[value][..]), "{address:?}");
    }
    Ok(())
}

#[test]
fn jiffies_may_go_by_meanwhile() {
    let mut clock = Jiffies {
        now: 5,
        tick: Some((2, 3)),
    };
    assert_eq!([(); 4].map(|()| clock.read()), [5, 5, 8, 8]);
}

#[test]
fn a_full_map_says_so() -> Result<()> {
    let mut map = Map::new("MAP", MAP);
    let value = [0; 8];
    let results: Vec<_> = [(1, 1), (1, 1), (2, 2), (2, 0), (3, 0), (1, 0)]
        .into_iter()
        .map(|(key, flags)| map.update(&u32::to_ne_bytes(key), &value, flags))
        .collect::<Result<_>>()?;
    assert_eq!(results, [0, -17, -2, 0, -7, 0]);
    assert_eq!(map.remove(&1_u32.to_ne_bytes()), 0);
    assert_eq!(map.remove(&1_u32.to_ne_bytes()), -2);
    let mut other = Map::new("MAP", MAP);
    other.update(&2_u32.to_ne_bytes(), &value, 0)?;
    assert_eq!(map.difference(&other), None);
    other.update(&5_u32.to_ne_bytes(), &value, 0)?;
    let key = 5_u32.to_ne_bytes().to_vec();
    assert_eq!(map.difference(&other), Some((key, None, Some(&value[..]))));
    Ok(())
}
