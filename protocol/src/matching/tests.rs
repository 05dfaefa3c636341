//! Each filter, each factor, and the properties of the order.

use super::*;
use crate::{
    advert::Hardware,
    id::{AccountId, Signature},
    sign::Signed,
};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_000_000);
const CARGO: CargoId = CargoId([7; 32]);

fn request() -> Request {
    Request {
        tie: JobId([1; 16]),
        cargo: CARGO,
        runtime: RuntimeType::Wasm,
        requirements: Requirements::default(),
        regions: RegionPolicy::Any,
        bid_percent: None,
        tokens_per_second: None,
    }
}

fn advert(node: u8) -> SignedAdvert {
    let value = Advert {
        node: NodeId([node; 32]),
        account: AccountId([node; 32]),
        sequence: 1,
        issued: NOW,
        name: format!("island-{node}"),
        region: "eu".into(),
        platform: Platform::Desktop,
        supported_runtimes: vec![RuntimeType::Wasm, RuntimeType::Llmcpp],
        hardware: Hardware { cpu_cores: 4, ram_mb: 8_192, ..Hardware::default() },
        active_jobs: 0,
        max_jobs: 4,
        asking_percent: 100,
        warm: Vec::new(),
        addresses: Vec::new(),
    };
    Signed { value, signer: AccountId([node; 32]), signature: Signature([0; 64]) }
}

fn with(change: impl FnOnce(&mut Advert)) -> SignedAdvert {
    let mut advert = advert(1);
    change(&mut advert.value);
    advert
}

fn candidate(advert: &SignedAdvert) -> Candidate<'_> {
    Candidate { advert, standing: None, rtt_us: Some(10_000), failed_recently: false }
}

fn standing(karma_milli: i64) -> IslandStanding {
    IslandStanding { karma_milli, ..IslandStanding::default() }
}

fn exclusion(request: &Request, candidate: Candidate<'_>) -> Option<Exclusion> {
    let candidates = [candidate];
    let ranking = rank(request, &candidates, &Policy::default(), NOW);
    assert_eq!(ranking.ranked.len() + ranking.excluded.len(), 1);
    ranking.excluded.first().map(|e| e.reason)
}

fn score(request: &Request, candidate: Candidate<'_>) -> u16 {
    let candidates = [candidate];
    rank(request, &candidates, &Policy::default(), NOW).ranked[0].score()
}

#[test]
fn an_island_is_left_out_for_what_its_advert_says() {
    let life_ms = Policy::default().advert.life_ms();
    let ahead_ms = advert::MAX_AHEAD_MS + 1;
    let needs = Requirements { vram_mb: 6_000, cpu_cores: 4, ram_mb: 8_192 };
    let request = Request {
        requirements: needs,
        regions: RegionPolicy::Only(vec!["us".into(), "EU".into()]),
        bid_percent: Some(100),
        ..request()
    };
    let good = with(|a| a.hardware.vram_mb = 6_000);
    assert_eq!(exclusion(&request, candidate(&good)), None);

    type Change = fn(&mut Advert);
    let cases: [(Change, Exclusion); 9] = [
        (
            |a| a.supported_runtimes = vec![RuntimeType::Container],
            Exclusion::Runtime { needed: RuntimeType::Wasm },
        ),
        (|a| a.hardware.vram_mb = 5_999, Exclusion::Vram { needed: 6_000, found: 5_999 }),
        (|a| a.hardware.cpu_cores = 3, Exclusion::Cores { needed: 4, found: 3 }),
        (|a| a.hardware.ram_mb = 8_191, Exclusion::Ram { needed: 8_192, found: 8_191 }),
        (|a| a.region = "eu-west".into(), Exclusion::Region),
        (|a| a.asking_percent = 101, Exclusion::Price { asking: 101, bid: 100 }),
        (|a| a.active_jobs = 4, Exclusion::Full { active: 4, max: 4 }),
        (|a| a.max_jobs = 0, Exclusion::Full { active: 0, max: 0 }),
        (
            |a| a.issued = Timestamp(NOW.0 - 30_001),
            Exclusion::Expired { age_ms: 30_001, life_ms: 30_000 },
        ),
    ];
    assert_eq!(life_ms, 30_000);
    for (change, expected) in cases {
        let mut changed = good.clone();
        change(&mut changed.value);
        assert_eq!(exclusion(&request, candidate(&changed)), Some(expected));
    }
    let early = with(|a| (a.issued, a.hardware.vram_mb) = (NOW.after_ms(ahead_ms), 6_000));
    let reason = Some(Exclusion::FromTheFuture { ahead_ms });
    assert_eq!(exclusion(&request, candidate(&early)), reason);

    // The same ages count here as where adverts arrive.
    for issued in [NOW.0 - 30_000, NOW.0 - 30_001, NOW.0 + 30_000, NOW.0 + 30_001] {
        let aged = with(|a| (a.issued, a.hardware.vram_mb) = (Timestamp(issued), 6_000));
        let arrives = aged.value.check_age(NOW, &Policy::default().advert);
        assert_eq!(exclusion(&request, candidate(&aged)).is_some(), arrives.is_err());
    }
}

#[test]
fn an_island_is_left_out_for_what_others_know_of_it() {
    let good = advert(1);
    let suspended = IslandStanding { suspended: true, ..IslandStanding::default() };
    let out = Candidate { standing: Some(suspended), ..candidate(&good) };
    assert_eq!(exclusion(&request(), out), Some(Exclusion::Suspended));
    let out = Candidate { failed_recently: true, ..candidate(&good) };
    assert_eq!(exclusion(&request(), out), Some(Exclusion::Tried));
}

#[test]
fn a_runtime_must_exist_on_the_platform() {
    let phone = with(|a| {
        a.platform = Platform::Android;
        a.supported_runtimes = vec![RuntimeType::Llmcpp, RuntimeType::Onnx];
    });
    let of = |runtime| exclusion(&Request { runtime, ..request() }, candidate(&phone));
    assert_eq!(of(RuntimeType::Onnx), None);
    assert_eq!(
        of(RuntimeType::Llmcpp),
        Some(Exclusion::Platform { needed: RuntimeType::Llmcpp, found: Platform::Android })
    );
}

#[test]
fn every_reason_names_its_field_and_numbers() {
    let reason = Exclusion::Vram { needed: 12_000, found: 8_000 };
    assert_eq!(reason.to_string(), "required_vram_mb: 12000 needed, it has 8000");
    let all = [
        reason,
        Exclusion::Runtime { needed: RuntimeType::Onnx },
        Exclusion::Platform { needed: RuntimeType::Coreml, found: Platform::Desktop },
        Exclusion::Cores { needed: 8, found: 2 },
        Exclusion::Ram { needed: 8, found: 2 },
        Exclusion::Suspended,
        Exclusion::Expired { age_ms: 31_000, life_ms: 30_000 },
        Exclusion::FromTheFuture { ahead_ms: 31_000 },
        Exclusion::Region,
        Exclusion::Price { asking: 120, bid: 100 },
        Exclusion::Tried,
        Exclusion::Full { active: 2, max: 2 },
    ];
    for reason in all {
        let full = matches!(reason, Exclusion::Full { .. });
        assert_eq!(reason.refusal_kind() == RefusalKind::Full, full);
    }
}

#[test]
fn each_factor_gives_its_points() {
    let base = advert(1);
    let points = |request: &Request, candidate: Candidate<'_>, factor| {
        let candidates = [candidate];
        let ranking = rank(request, &candidates, &Policy::default(), NOW);
        let lines = ranking.ranked[0].explain(request);
        let total: u16 = lines.iter().map(|line| line.points).sum();
        assert_eq!(total, ranking.ranked[0].score());
        lines.into_iter().find(|line| line.factor == factor).map(|line| line.points)
    };
    let plain = request();

    let prefer = |name: &str| Request { regions: RegionPolicy::Prefer(name.into()), ..request() };
    assert_eq!(points(&prefer("Eu"), candidate(&base), Factor::Region), Some(300));
    assert_eq!(points(&prefer("us"), candidate(&base), Factor::Region), Some(0));
    assert_eq!(points(&plain, candidate(&base), Factor::Region), None);

    let warm = with(|a| a.warm = vec![CargoId([0; 32]), CARGO]);
    assert_eq!(points(&plain, candidate(&warm), Factor::Warm), Some(250));
    assert_eq!(points(&plain, candidate(&base), Factor::Warm), Some(0));

    for (karma, expected) in
        [(i64::MIN, 0), (-1, 0), (0, 15), (9_999, 15), (10_000, 30), (90_000, 150), (i64::MAX, 150)]
    {
        let known = Candidate { standing: Some(standing(karma)), ..candidate(&base) };
        assert_eq!(points(&plain, known, Factor::Karma), Some(expected), "karma {karma}");
    }
    for (active, expected) in [(0, 150), (1, 112), (2, 75), (3, 37)] {
        let busy = with(|a| a.active_jobs = active);
        assert_eq!(points(&plain, candidate(&busy), Factor::Load), Some(expected));
    }
    for (rtt_us, expected) in
        [(Some(0), 100), (Some(999), 100), (Some(1_000), 90), (None, 40), (Some(u32::MAX), 0)]
    {
        let far = Candidate { rtt_us, ..candidate(&base) };
        assert_eq!(points(&plain, far, Factor::Rtt), Some(expected));
    }
    for (asking, expected) in [(0, 100), (50, 100), (100, 50), (149, 1), (150, 0), (u16::MAX, 0)] {
        let priced = with(|a| a.asking_percent = asking);
        assert_eq!(points(&plain, candidate(&priced), Factor::Price), Some(expected));
    }
}

#[test]
fn hardware_fit_is_bandwidth_over_model_size() {
    let island = |bandwidth| {
        with(|a| (a.hardware.memory_bandwidth_mbps, a.hardware.vram_mb) = (bandwidth, 24_000))
    };
    let fit = |request: &Request, bandwidth| {
        let island = island(bandwidth);
        let candidates = [candidate(&island)];
        let ranking = rank(request, &candidates, &Policy::default(), NOW);
        let lines = ranking.ranked[0].explain(request);
        lines.into_iter().find(|line| line.factor == Factor::Fit)
    };
    let needs = |vram_mb, ram_mb| Request {
        runtime: RuntimeType::Llmcpp,
        requirements: Requirements { vram_mb, cpu_cores: 1, ram_mb },
        ..request()
    };
    let points = |request: &Request, bandwidth| fit(request, bandwidth).map(|line| line.points);
    assert_eq!(points(&needs(5_000, 256), 50_000), Some(50), "10 of 20 tokens/s");
    assert_eq!(points(&needs(5_000, 256), 1_000_000), Some(100), "never more than wished for");
    assert_eq!(points(&needs(0, 5_000), 50_000), Some(50), "on the CPU the model is in RAM");
    assert_eq!(points(&needs(0, 0), u32::MAX), Some(100));
    assert_eq!(points(&needs(5_000, 256), 0), Some(0));
    let wish = Request { tokens_per_second: Some(100), ..needs(5_000, 256) };
    let line = fit(&wish, 50_000).expect("llmcpp looks at the fit");
    assert_eq!(line.to_string(), "hardware fit 10/100: about 10 tokens/s, 100 are wished for");
    let any = Request { tokens_per_second: Some(0), ..needs(5_000, 256) };
    assert_eq!(points(&any, 50_000), Some(100));
    assert_eq!(points(&request(), 50_000), None);
}

#[test]
fn an_explanation_reads_as_words() {
    let island = with(|a| (a.active_jobs, a.warm) = (1, vec![CARGO]));
    let request = Request { regions: RegionPolicy::Prefer("us".into()), ..request() };
    let candidates = [Candidate { standing: Some(standing(-1_500)), ..candidate(&island) }];
    let ranking = rank(&request, &candidates, &Policy::default(), NOW);
    let lines: Vec<String> =
        ranking.ranked[0].explain(&request).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "region 0/300: in eu, us is preferred",
            "warm 250/250: ran this version lately or holds it",
            "karma 0/150: karma -1.500",
            "load 112/150: 1 of 4 jobs running",
            "round trip 75/100: 10.000 ms away",
            "price 50/100: asks 100 percent of the Cargo's price",
        ]
    );
}

#[test]
fn islands_that_lack_nothing_but_room_are_ranked_apart() {
    let mut islands: Vec<SignedAdvert> = (0..4).map(advert).collect();
    for island in &mut islands[..3] {
        island.value.active_jobs = island.value.max_jobs;
    }
    islands[0].value.region = "far".into();
    islands[2].value.hardware.ram_mb = 100;
    let candidates: Vec<_> = islands.iter().map(candidate).collect();
    let request = Request { regions: RegionPolicy::Prefer("eu".into()), ..request() };
    let nodes = |list: &[Ranked<'_>]| list.iter().map(Ranked::node).collect::<Vec<_>>();
    let of = |number: usize| islands[number].value.node;
    let ranking = rank(&request, &candidates, &Policy::default(), NOW);
    assert_eq!((nodes(&ranking.ranked), nodes(&ranking.full)), (vec![of(3)], vec![of(1), of(0)]));
    assert_eq!(ranking.excluded.len(), 3);
    let one = best(&request, &candidates, &Policy::default(), NOW, 1);
    assert_eq!((nodes(&one.ranked), nodes(&one.full)), (vec![of(3)], vec![of(1)]));
}

#[test]
fn region_policies_are_bounded() {
    let only = |count: usize, length: usize| RegionPolicy::Only(vec!["r".repeat(length); count]);
    assert_eq!(RegionPolicy::Any.validate(), Ok(()));
    assert_eq!(RegionPolicy::Prefer("eu".into()).validate(), Ok(()));
    assert_eq!(only(MAX_REGIONS, MAX_REGION_BYTES).validate(), Ok(()));
    let text = |policy: RegionPolicy| policy.validate().expect_err("accepted").to_string();
    assert_eq!(text(only(17, 1)), "field `regions`: 17 regions, must be 1 to 16");
    assert_eq!(text(only(0, 1)), "field `regions`: 0 regions, must be 1 to 16");
    assert_eq!(text(only(1, 33)), "field `regions`: 33 bytes in a name, must be 1 to 32");
    let empty = RegionPolicy::Prefer(String::new());
    assert_eq!(text(empty), "field `regions`: 0 bytes in a name, must be 1 to 32");
}

#[test]
fn equal_islands_share_the_jobs() {
    let islands: Vec<SignedAdvert> = (0..8).map(advert).collect();
    let candidates: Vec<_> = islands.iter().map(candidate).collect();
    let mut firsts = [0_u32; 8];
    for job in 0..800_u128 {
        let request = Request { tie: JobId(job.to_be_bytes()), ..request() };
        let ranking = best(&request, &candidates, &Policy::default(), NOW, 1);
        firsts[usize::from(ranking.ranked[0].node().0[0])] += 1;
    }
    assert!(firsts.iter().all(|count| (60..=140).contains(count)), "{firsts:?}");

    // When the first is lost, each job goes on with what was its second.
    let all = rank(&request(), &candidates, &Policy::default(), NOW);
    let mut left = candidates.clone();
    left.retain(|c| c.advert.value.node != all.ranked[0].node());
    let rest = rank(&request(), &left, &Policy::default(), NOW);
    let nodes = |ranked: &[Ranked<'_>]| ranked.iter().map(Ranked::node).collect::<Vec<_>>();
    assert_eq!(nodes(&rest.ranked), nodes(&all.ranked[1..]));
}

fn any_advert() -> impl Strategy<Value = SignedAdvert> {
    let runtimes = prop::sample::subsequence(
        vec![RuntimeType::Wasm, RuntimeType::Llmcpp, RuntimeType::Onnx, RuntimeType::Container],
        0..=4,
    );
    let platforms = prop::sample::select(vec![Platform::Desktop, Platform::Android]);
    let hardware = (0..8_u32, prop::sample::select(vec![128_u32, 256, 8_192]), 0..3_u32, 0..9_u32);
    let state = (0..5_u32, 0..5_u32, 90..110_u16, any::<bool>(), any::<bool>(), 0..40_000_u64);
    (runtimes, platforms, hardware, state).prop_map(|(runtimes, platform, hardware, state)| {
        let (cpu_cores, ram_mb, vram, bandwidth) = hardware;
        let (active_jobs, max_jobs, asking_percent, eu, warm, age_ms) = state;
        with(|a| {
            (a.supported_runtimes, a.platform) = (runtimes, platform);
            (a.hardware.cpu_cores, a.hardware.ram_mb) = (cpu_cores, ram_mb);
            a.hardware.vram_mb = vram * 4_000;
            a.hardware.memory_bandwidth_mbps = bandwidth * 10_000;
            (a.active_jobs, a.max_jobs, a.asking_percent) = (active_jobs, max_jobs, asking_percent);
            a.region = if eu { "eu" } else { "us" }.into();
            a.warm = if warm { vec![CARGO] } else { Vec::new() };
            a.issued = Timestamp(NOW.0 - age_ms);
        })
    })
}

/// An Island and what is known of it: karma in points, round trip, failed.
type Known = (SignedAdvert, Option<i8>, Option<u32>, bool);

fn any_islands() -> impl Strategy<Value = Vec<Known>> {
    let one = (any_advert(), any::<Option<i8>>(), any::<Option<u32>>(), prop::bool::weighted(0.1));
    prop::collection::vec(one, 0..40).prop_map(|mut islands| {
        for (i, island) in islands.iter_mut().enumerate() {
            island.0.value.node = NodeId([u8::try_from(i).unwrap(); 32]);
        }
        islands
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let runtimes = vec![RuntimeType::Wasm, RuntimeType::Llmcpp, RuntimeType::Onnx];
    let regions = vec![
        RegionPolicy::Any,
        RegionPolicy::Prefer("eu".into()),
        RegionPolicy::Only(vec!["us".into()]),
    ];
    (
        any::<[u8; 16]>(),
        prop::sample::select(runtimes),
        prop::sample::select(regions),
        (0..2_u32, 1..6_u32),
        prop::option::of(95..120_u16),
    )
        .prop_map(|(tie, runtime, regions, (vram, cpu_cores), bid_percent)| Request {
            tie: JobId(tie),
            runtime,
            regions,
            requirements: Requirements { vram_mb: vram * 4_000, cpu_cores, ram_mb: 256 },
            bid_percent,
            ..request()
        })
}

fn known(island: &Known) -> Candidate<'_> {
    let (advert, karma, rtt_us, failed_recently) = island;
    let standing = karma.map(|karma| standing(i64::from(karma) * 1_000));
    Candidate { advert, standing, rtt_us: *rtt_us, failed_recently: *failed_recently }
}

proptest! {
    #[test]
    fn the_order_of_the_input_does_not_matter(
        islands in any_islands(), request in any_request(), turn in 0..40_usize, count in 0..45_usize,
    ) {
        let candidates: Vec<_> = islands.iter().map(known).collect();
        let mut turned = candidates.clone();
        turned.reverse();
        let middle = turn.min(turned.len());
        turned.rotate_left(middle);

        let nodes = |r: &Ranking<'_>| r.ranked.iter().map(Ranked::node).collect::<Vec<_>>();
        let policy = Policy::default();
        let (a, b) = (rank(&request, &candidates, &policy, NOW), rank(&request, &turned, &policy, NOW));
        prop_assert_eq!(nodes(&a), nodes(&b));
        prop_assert!(a.ranked.is_sorted_by_key(|r| std::cmp::Reverse(r.score())));

        let first = best(&request, &turned, &policy, NOW, count);
        prop_assert_eq!(nodes(&first), &nodes(&a)[..count.min(a.ranked.len())]);
        prop_assert_eq!(first.excluded.len(), a.excluded.len());
    }

    #[test]
    fn every_island_is_ranked_or_left_out_and_none_that_would_refuse_is_offered(
        islands in any_islands(), request in any_request(),
    ) {
        let candidates: Vec<_> = islands.iter().map(known).collect();
        let ranking = rank(&request, &candidates, &Policy::default(), NOW);
        prop_assert_eq!(ranking.ranked.len() + ranking.excluded.len(), candidates.len());
        for ranked in &ranking.ranked {
            let advert = &ranked.candidate.advert.value;
            prop_assert_eq!(can_run(advert, request.runtime, &request.requirements), Ok(()));
            prop_assert_eq!(has_room(advert), Ok(()));
            prop_assert!(!ranked.candidate.failed_recently);
        }
    }

    /// Made worse in one thing and alike in all others, an Island never gains, and falls behind
    /// where the difference is one that the factor sees.
    #[test]
    fn worse_never_scores_above_better(
        mut island in any_advert(), request in any_request(), karma in -50_000..100_000_i64,
        rtt_us in 0..600_000_u32, by in 1..200_000_u32,
    ) {
        let policy = Policy::default();
        island.value.supported_runtimes = vec![request.runtime];
        island.value.platform = Platform::Desktop;
        island.value.region = "us".into();
        island.value.issued = NOW;
        island.value.max_jobs += island.value.active_jobs + 1;
        island.value.hardware.cpu_cores += request.requirements.cpu_cores;
        island.value.hardware.ram_mb += request.requirements.ram_mb;
        island.value.hardware.vram_mb += request.requirements.vram_mb;
        let request = Request { bid_percent: request.bid_percent.map(|bid| bid + 20), ..request };
        let good = Candidate {
            standing: Some(standing(karma)), rtt_us: Some(rtt_us), ..candidate(&island)
        };
        prop_assert_eq!(check(&request, &good, &policy, NOW), Ok(()));
        let scored = |c: Candidate<'_>| {
            check(&request, &c, &policy, NOW).is_ok().then(|| score(&request, c))
        };
        let better = scored(good);

        let mut fuller = island.clone();
        fuller.value.active_jobs += 1;
        let fuller = scored(Candidate { advert: &fuller, ..good });
        prop_assert!(fuller < better);

        let mut dearer = island.clone();
        dearer.value.asking_percent += 1;
        let dearer = scored(Candidate { advert: &dearer, ..good });
        prop_assert!(dearer < better);

        let mut cold = island.clone();
        cold.value.warm.clear();
        let seen = !island.value.warm.is_empty();
        let cold = scored(Candidate { advert: &cold, ..good });
        prop_assert_eq!(cold < better, seen);
        prop_assert!(cold <= better);

        let poorer = scored(Candidate { standing: Some(standing(karma - i64::from(by))), ..good });
        prop_assert!(poorer <= better);
        prop_assert!(by < 10_000 || !(0..100_000).contains(&karma) || poorer < better);

        let farther = scored(Candidate { rtt_us: Some(rtt_us + by), ..good });
        prop_assert!(farther <= better);

        let mut slower = island.clone();
        slower.value.hardware.memory_bandwidth_mbps /= 2;
        let slower = scored(Candidate { advert: &slower, ..good });
        prop_assert!(slower <= better);
    }
}
