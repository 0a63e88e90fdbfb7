// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Results and the hello: what the agent's frames carry.

use proptest::prelude::*;
use protocol::outcome::sweep;
use protocol::wire::Sink;
use protocol::{
    Call, Data, Errno, Error, FileStatus, Hello, MAX_DATA, MAX_PAYLOAD, Outcome, Refusal, Results, Run,
    Sweep, WindowAddress,
};

use crate::one_of;

fn data() -> impl Strategy<Value = Data> {
    (prop::collection::vec((any::<u8>(), 1usize..200), 0..40), prop::option::of((1usize..1000, any::<u64>())))
        .prop_map(|(pieces, cut)| {
            let bytes: Vec<u8> = pieces.iter().flat_map(|&(byte, count)| vec![byte; count]).collect();
            let cut = cut.map(|(more, digest)| (bytes.len() + more, digest));
            Data { bytes, cut }
        })
}

fn simple_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        any::<i64>().prop_map(Outcome::Value),
        (any::<i64>(), data()).prop_map(|(value, data)| Outcome::Data { value, data }),
        data().prop_map(|data| Outcome::Data { value: data.len() as i64, data }),
        (any::<u16>(), one_of(&Call::ALL))
            .prop_map(|(errno, call)| Outcome::Failed { errno: Errno(errno), call }),
        (any::<u8>(), any::<i32>(), any::<u64>(), data())
            .prop_map(|(signal, code, address, data)| Outcome::Signal { signal, code, address, data }),
        any::<u8>().prop_map(|signal| Outcome::Killed { signal }),
        any::<u8>().prop_map(|status| Outcome::Exited { status }),
        any::<bool>().prop_map(|undead| Outcome::Timeout { undead }),
        any::<(u32, u64, u64, u32, u32)>().prop_map(|(mode, rdev, size, uid, gid)| Outcome::Status(
            FileStatus { mode, rdev, size, uid, gid }
        )),
        Just(Outcome::NoRoom),
        one_of(&Refusal::ALL).prop_map(Outcome::Refused),
    ]
}

fn sweep() -> impl Strategy<Value = Sweep> {
    (1u8..5).prop_flat_map(|steps| {
        let outcomes = || prop::collection::vec(simple_outcome(), usize::from(steps));
        (prop::collection::vec((any::<u32>(), outcomes()), 0..5)).prop_map(move |runs| Sweep {
            steps,
            runs: runs.into_iter().map(|(count, outcomes)| Run { count, outcomes }).collect(),
            partial: None,
        })
    })
}

fn results() -> impl Strategy<Value = Results> {
    let outcome = prop_oneof![4 => simple_outcome(), 1 => sweep().prop_map(Outcome::Sweep)];
    (
        any::<bool>(),
        prop::collection::vec(outcome, 0..12),
        prop::option::of(prop::collection::vec(simple_outcome(), 0..4)),
    )
        .prop_map(|(fresh, mut outcomes, partial)| {
            if let (Some(Outcome::Sweep(sweep)), partial @ Some(_)) = (outcomes.last_mut(), partial) {
                sweep.partial = partial;
            }
            Results { fresh, outcomes }
        })
}

proptest! {
    #[test]
    fn results_come_back(results in results(), missing in 0usize..3) {
        let mut bytes = Vec::new();
        results.encode(&mut bytes);
        let mut expected = results.clone();
        expected.outcomes.resize(results.outcomes.len() + missing, Outcome::NotRun);
        let back = Results::decode(&bytes, expected.outcomes.len());
        prop_assert_eq!(back, Ok(expected));
        if !results.outcomes.is_empty() && !matches!(results.outcomes.last(), Some(Outcome::Sweep(_))) {
            prop_assert_eq!(Results::decode(&bytes, results.outcomes.len() - 1), Err(Error::TooLong));
        }
    }

    #[test]
    fn any_bytes_are_results_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), steps in 0usize..50) {
        if let Ok(results) = Results::decode(&bytes, steps) {
            prop_assert_eq!(results.outcomes.len(), steps);
        }
        let _ = Hello::decode(&bytes);
    }

    #[test]
    fn hello_comes_back(is_init in any::<bool>(), notifies in any::<bool>(), window in prop::option::of(any::<(u64, u32)>())) {
        let window = window.map(|(frame_number, key)| WindowAddress { frame_number, key });
        let hello = Hello { is_init, notifies, window };
        let mut bytes = Vec::new();
        hello.encode(&mut bytes);
        prop_assert_eq!(Hello::decode(&bytes), Ok(hello));
    }
}

#[test]
fn a_few_bytes_do_not_unfold_to_gigabytes() {
    // Outcomes of 60 KiB of zeros in six bytes each.
    let mut payload = vec![0];
    let zeros = Outcome::Data { value: MAX_DATA as i64, data: Data { bytes: vec![0; MAX_DATA], cut: None } };
    while payload.len() < MAX_PAYLOAD - 16 {
        zeros.encode(&mut payload);
    }
    assert_eq!(Results::decode(&payload, usize::MAX / 64), Err(Error::TooLong));
}

#[test]
fn an_unfinished_iteration_takes_the_rest() {
    let mut payload = vec![0];
    sweep::begin(&mut payload, 2);
    sweep::iteration(&mut payload);
    protocol::outcome::value(&mut payload, 5);
    protocol::outcome::killed(&mut payload, 11);
    let results = Results::decode(&payload, 3).unwrap();
    let partial = Some(vec![Outcome::Value(5), Outcome::Killed { signal: 11 }]);
    assert_eq!(
        results.outcomes,
        [Outcome::Sweep(Sweep { steps: 2, runs: vec![], partial }), Outcome::NotRun, Outcome::NotRun]
    );
    payload.byte(200);
    assert_eq!(Results::decode(&payload, 3), Err(Error::Outcome));
}
