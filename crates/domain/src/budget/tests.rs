use proptest::prelude::*;

use super::*;

/// 2026-11-20T12:00:00Z.
const NOON: u64 = 1_795_176_000_000;

fn dollars(text: &str) -> Money {
    text.parse().unwrap()
}

fn budget(name: &str, scope: Scope, period: Period, limit: &str) -> Budget {
    Budget {
        name: name.to_owned(),
        scope,
        period,
        limit: dollars(limit),
        allowance: Share::ALL,
        when_spent: WhenSpent::Reject,
        alert_at: Share::millionths(800_000),
    }
}

fn daily(limit: &str) -> Book {
    Book::new(vec![budget("daily", Scope::All, Period::Day, limit)], Kept::default())
}

fn openai() -> Spender {
    Spender { provider: "openai".to_owned(), agent: "CodeGenerator".to_owned(), key: String::new() }
}

fn set_aside(amount: &str) -> Reservation {
    Reservation {
        call: Call::default(),
        spender: openai(),
        amount: dollars(amount),
        until_unix_ms: NOON + 60_000,
    }
}

#[test]
fn the_worst_case_is_set_aside_and_the_real_cost_is_spent() {
    let mut book = daily("1");
    book.reserve("a", set_aside("0.60"), NOON).unwrap();
    let refused = book.reserve("b", set_aside("0.50"), NOON).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "budget daily has no room for $0.50: $0.00 of $1.00 are spent, $0.60 set aside for calls under way"
    );
    assert!(refused.may_pass(), "the first call may turn out cheap");
    assert!(book.settle("a", &openai(), dollars("0.10"), NOON).is_empty());
    book.reserve("b", set_aside("0.50"), NOON).unwrap();
    let [account] = book.accounts() else { panic!() };
    assert_eq!((account.spent, account.reserved), (dollars("0.10"), dollars("0.50")));
}

#[test]
fn the_same_reservation_twice_is_one() {
    let mut book = daily("1");
    book.reserve("a", set_aside("0.60"), NOON).unwrap();
    book.reserve("a", set_aside("0.60"), NOON).unwrap();
    assert_eq!(book.accounts()[0].reserved, dollars("0.60"));
}

#[test]
fn each_scope_has_its_own_account() {
    let budgets = vec![
        budget("all", Scope::All, Period::Month, "100"),
        budget("openai", Scope::Provider("openai".to_owned()), Period::Day, "2"),
        budget("writer", Scope::Agent("WriterAgent".to_owned()), Period::Day, "1"),
        budget("coder", Scope::Agent("CodeGenerator".to_owned()), Period::Day, "1"),
    ];
    let mut book = Book::new(budgets, Kept::default());
    book.settle("x", &openai(), dollars("0.90"), NOON);
    let spent: Vec<_> = book.accounts().iter().map(|account| account.spent).collect();
    assert_eq!(spent, [dollars("0.90"), dollars("0.90"), Money::ZERO, dollars("0.90")]);
    assert_eq!(book.reserve("a", set_aside("0.20"), NOON).unwrap_err().account.budget.name, "coder");
    let other =
        Reservation { spender: Spender { agent: "Planner".to_owned(), ..openai() }, ..set_aside("0.20") };
    book.reserve("a", other, NOON).unwrap();
}

#[test]
fn a_window_ends_and_what_is_under_way_stays_set_aside() {
    let mut book = daily("1");
    book.settle("x", &openai(), dollars("0.50"), NOON);
    book.reserve("a", set_aside("0.50"), NOON).unwrap();
    let refused = book.reserve("b", set_aside("0.10"), NOON).unwrap_err();
    assert_eq!(refused.account.resets_unix_ms(), NOON + DAY_MS / 2);
    assert!(refused.may_pass());
    let tomorrow = NOON + DAY_MS / 2;
    book.reserve("b", set_aside("0.50"), tomorrow).unwrap();
    assert!(book.reserve("c", set_aside("0.10"), tomorrow).is_err(), "the call of yesterday is paid today");
    // a clock that is set back does not give yesterday's money again
    assert!(book.reserve("c", set_aside("0.10"), NOON).is_err());
}

#[test]
fn a_call_that_is_never_heard_of_is_charged_and_put_right_later() {
    let mut book = daily("1");
    book.reserve("a", set_aside("0.60"), NOON).unwrap();
    assert!(book.expire(NOON + 60_000).0.is_empty());
    let (expired, _) = book.expire(NOON + 60_001);
    assert_eq!(expired, [("a".to_owned(), set_aside("0.60"))]);
    assert_eq!((book.accounts()[0].spent, book.accounts()[0].reserved), (dollars("0.60"), Money::ZERO));
    book.settle("a", &openai(), dollars("0.05"), NOON + 120_000);
    assert_eq!(book.accounts()[0].spent, dollars("0.05"));
    // and only once
    book.settle("b", &openai(), dollars("0.01"), NOON + 120_000);
    assert_eq!(book.accounts()[0].spent, dollars("0.06"));
}

#[test]
fn people_are_told_once_at_four_fifths() {
    let mut book = daily("1");
    assert!(book.settle("a", &openai(), dollars("0.79"), NOON).is_empty());
    assert_eq!(book.settle("b", &openai(), dollars("0.01"), NOON)[0].budget.name, "daily");
    assert!(book.settle("c", &openai(), dollars("0.10"), NOON).is_empty());
    assert_eq!(book.settle("d", &openai(), dollars("0.80"), NOON + DAY_MS).len(), 1, "tomorrow again");
}

#[test]
fn machines_have_parts_of_a_budget() {
    let parts = [700_000, 300_000].map(|part| Budget {
        allowance: Share::millionths(part),
        ..daily("0.000000000001").accounts[0].budget.clone()
    });
    let together: Money = parts.iter().map(Budget::allowed).sum();
    assert!(together <= parts[0].limit);
    let part =
        Budget { allowance: Share::millionths(300_000), ..budget("daily", Scope::All, Period::Day, "10") };
    assert_eq!(part.allowed(), dollars("3"));
}

#[test]
fn a_book_survives_a_restart_and_another_set_of_budgets() {
    let mut book = daily("1");
    book.settle("x", &openai(), dollars("0.30"), NOON);
    book.reserve("a", set_aside("0.60"), NOON).unwrap();
    book.reserve("late", Reservation { until_unix_ms: NOON, ..set_aside("0.05") }, NOON).unwrap();
    book.expire(NOON + 1);
    let budgets = book.accounts().iter().map(|account| account.budget.clone()).collect();
    assert_eq!(Book::new(budgets, book.kept()), book);
    book.replace(vec![
        budget("daily", Scope::All, Period::Day, "2"),
        budget("openai", Scope::Provider("openai".to_owned()), Period::Day, "1"),
    ]);
    let standing: Vec<_> = book.accounts().iter().map(|account| (account.spent, account.reserved)).collect();
    assert_eq!(standing, [(dollars("0.35"), dollars("0.60")), (Money::ZERO, dollars("0.60"))]);
}

#[test]
fn yesterdays_calls_are_yesterdays() {
    let mut book = daily("1");
    book.settle("today", &openai(), dollars("0.10"), NOON);
    book.settle("late", &openai(), dollars("0.70"), NOON - DAY_MS);
    assert_eq!(book.accounts()[0].spent, dollars("0.10"));
}

#[test]
fn windows_follow_the_calendar() {
    // 2024-02-29T23:59:59Z, a leap year
    let leap = 1_709_251_199_000;
    assert_eq!(Period::Month.start(leap), 1_706_745_600_000, "2024-02-01");
    assert_eq!(Period::Month.end(leap), 1_709_251_200_000, "2024-03-01");
    assert_eq!(Period::Day.start(leap), 1_709_164_800_000);
    // 2026-01-31 and 2026-12-31
    assert_eq!(Period::Month.end(1_769_817_600_000), 1_769_904_000_000, "2026-02-01");
    assert_eq!(Period::Month.end(1_798_675_200_000), 1_798_761_600_000, "2027-01-01");
}

#[derive(Debug, Clone)]
enum Step {
    Reserve(u8, u16),
    Settle(u8, u16),
    Wait(u32),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..24, 1u16..600).prop_map(|(id, cents)| Step::Reserve(id, cents)),
        4 => (0u8..24, 0u16..=1_000).prop_map(|(id, permille)| Step::Settle(id, permille)),
        1 => (0u32..40_000_000).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// Two machines that hear nothing of each other.
    #[test]
    fn a_budget_is_never_exceeded(steps in prop::collection::vec((any::<bool>(), step()), 1..200)) {
        let whole = budget("daily", Scope::All, Period::Day, "10");
        let part = |millionths| Budget { allowance: Share::millionths(millionths), ..whole.clone() };
        let mut books = [part(650_000), part(350_000)].map(|part| Book::new(vec![part], Kept::default()));
        let mut now = NOON;
        // what was set aside, by machine and id
        let mut under_way: BTreeMap<(bool, u8), Money> = BTreeMap::new();
        for (second, step) in steps {
            let book = &mut books[usize::from(second)];
            match step {
                Step::Reserve(id, cents) => {
                    let amount = Money::picodollars(i64::from(cents) * 10_000_000_000);
                    let reservation = Reservation { call: Call::default(), spender: openai(), amount, until_unix_ms: now + 60_000 };
                    if book.reserve(&id.to_string(), reservation, now).is_ok() {
                        under_way.entry((second, id)).or_insert(amount);
                    }
                }
                Step::Settle(id, permille) => {
                    // costs at most what was set aside; a late event of a call that ran out among them
                    if let Some(amount) = under_way.remove(&(second, id)) {
                        let cost = Money::picodollars(amount.as_picodollars() / 1_000 * i64::from(permille));
                        book.settle(&id.to_string(), &openai(), cost, now);
                    }
                }
                Step::Wait(ms) => {
                    now += u64::from(ms);
                    // what runs out is charged; its event may still come, which these ids would mistake for another call
                    for (id, _) in book.expire(now).0 {
                        under_way.remove(&(second, id.parse().unwrap()));
                    }
                }
                Step::Restart => {
                    let budgets = book.accounts().iter().map(|account| account.budget.clone()).collect();
                    *book = Book::new(budgets, book.kept());
                }
            }
            let used: Money = books.iter().map(|book| book.accounts()[0].spent + book.accounts()[0].reserved).sum();
            prop_assert!(used <= whole.limit, "{used}");
            for book in &books {
                let account = &book.accounts()[0];
                prop_assert!(account.spent + account.reserved <= account.budget.allowed());
            }
        }
    }
}
