//! The results of operators, kind by kind: as `model::number` and the template's operators compute them.

use super::Inference;
use super::Type;
use crate::diag::Code;
use crate::pipeline::kinds::Kinds;
use crate::template::Expr;
use crate::template::ExprKind;
use crate::template::Operator;

impl Inference<'_> {
    pub(super) fn negative(&mut self, expr: &Expr, inner: &Expr) -> Type {
        let gives = self.expr(inner);
        let fits = gives.kinds.and(Kinds::NUMBER.or(Kinds::MONEY));
        if fits.is_empty() && !gives.kinds.is_empty() {
            let message = format!("`-` takes a number or money, not {}", gives.kinds.named());
            self.error(Code::WrongOperation, &expr.range, message, None);
            return Type::ANY;
        }
        gives.narrowed(fits)
    }

    pub(super) fn binary(&mut self, operator: Operator, left: &Expr, right: &Expr, whole: &Expr) -> Type {
        let (one, two) = (self.expr(left), self.expr(right));
        match operator {
            // The one that decides is what comes out.
            Operator::Or => return one.narrowed(one.kinds.without(Kinds::NULL)).or(two),
            Operator::And => return one.or(two),
            Operator::Concatenate => return Type::text(),
            Operator::Power if one.is_any() || two.is_any() => return Type::ANY,
            _ => {}
        }
        let range = self.whole_range(left, whole.range.end.max(right.range.end));
        if let (Some(a), Some(b)) = (&one.currency, &two.currency)
            && one.kinds.only(Kinds::MONEY)
            && two.kinds.only(Kinds::MONEY)
            && a != b
            && operator != Operator::In
        {
            let message = format!("`{}` of money in {a} and money in {b}", operator.symbol());
            self.error(Code::MixedCurrencies, &range, message, Some("convert the one into the currency of the other"));
            return Type::ANY;
        }
        if matches!(operator, Operator::Equal | Operator::NotEqual) {
            self.equality(operator, &one, &two, &range);
            return Type::of(Kinds::BOOL);
        }
        let gives = combine(operator, one.kinds, two.kinds);
        if gives.is_empty() && !one.kinds.is_empty() && !two.kinds.is_empty() {
            let float_and_exact =
                |a: &Type, b: &Type| a.kinds.only(Kinds::FLOAT) && b.kinds.only(Kinds::DECIMAL.or(Kinds::MONEY));
            if float_and_exact(&one, &two) || float_and_exact(&two, &one) {
                let exact = if one.kinds.only(Kinds::FLOAT) { &two } else { &one };
                let message =
                    format!("`{}` of a binary float and {}, which is exact", operator.symbol(), exact.kinds.named());
                let help = "take `| float` away, or make the float exact by `| decimal`";
                self.error(Code::InexactNumber, &range, message, Some(help));
            } else {
                let message =
                    format!("`{}` does not go with {} and {}", operator.symbol(), one.kinds.named(), two.kinds.named());
                let help = self.operator_help(operator, (left, &one), (right, &two));
                self.error(Code::WrongOperation, &range, message, help.as_deref());
            }
            return if is_comparison(operator) { Type::of(Kinds::BOOL) } else { Type::ANY };
        }
        result(operator, gives, &one, &two)
    }

    /// Returns the mend: text and a number are the pair that people mix.
    fn operator_help(&self, operator: Operator, left: (&Expr, &Type), right: (&Expr, &Type)) -> Option<String> {
        let (text, number) = if left.1.kinds.only(Kinds::TEXT) { (left, right) } else { (right, left) };
        if !text.1.kinds.only(Kinds::TEXT) || !number.1.kinds.only(Kinds::NUMBER) {
            return None;
        }
        let written = |expr: &Expr| self.source.get(expr.range.clone()).unwrap_or_default().trim().to_owned();
        let plain = matches!(text.0.kind, ExprKind::Name(_) | ExprKind::Member(..) | ExprKind::Item(..));
        match operator {
            Operator::Add if !plain => Some("join texts by `~`".to_owned()),
            Operator::Add => Some(format!("join texts by `~`, or read the number: `{} | decimal`", written(text.0))),
            Operator::In | Operator::NotIn => None,
            _ if plain => Some(format!("read the number: `{} | decimal`", written(text.0))),
            _ => None,
        }
    }

    fn equality(&mut self, operator: Operator, one: &Type, two: &Type, range: &std::ops::Range<usize>) {
        // Numbers of all kinds can be equal; null is asked for on purpose.
        let wide = |kinds: Kinds| if kinds.has(Kinds::NUMBER) { kinds.or(Kinds::NUMBER) } else { kinds };
        let (a, b) = (wide(one.kinds), wide(two.kinds));
        let asked = one.kinds.only(Kinds::NULL) || two.kinds.only(Kinds::NULL);
        if a.has(b) || a.is_empty() || b.is_empty() || asked {
            return;
        }
        let message = format!("{} never equals {}", one.kinds.named(), two.kinds.named());
        let help = format!("`{}` compares values of one kind", operator.symbol());
        self.warning(Code::NeverEqual, range, message, Some(&help));
    }
}

fn is_comparison(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual
            | Operator::In
            | Operator::NotIn
    )
}

/// Returns the kinds that may come out, of every pair that works.
fn combine(operator: Operator, left: Kinds, right: Kinds) -> Kinds {
    let mut gives = Kinds::NONE;
    for one in left.each() {
        for two in right.each() {
            gives = gives.or(pair(operator, one, two));
        }
    }
    gives
}

fn result(operator: Operator, gives: Kinds, one: &Type, two: &Type) -> Type {
    let mut result = Type::of(gives);
    if gives.has(Kinds::LIST) && gives.only(Kinds::LIST) {
        let item = match operator {
            Operator::Add => one.item().or(two.item()),
            _ if one.kinds.only(Kinds::LIST) => one.item(),
            _ => two.item(),
        };
        return Type::list(item);
    }
    if gives.has(Kinds::MONEY) {
        let of = |side: &Type| if side.kinds.only(Kinds::MONEY) { side.currency.clone() } else { None };
        result.currency = of(one).or_else(|| of(two));
    }
    result
}

/// Returns what one pair of kinds gives; nothing where the operator refuses it.
fn pair(operator: Operator, left: Kinds, right: Kinds) -> Kinds {
    let (number, exact) = (Kinds::NUMBER, Kinds::EXACT);
    let both = |kinds: Kinds| left.only(kinds) && right.only(kinds);
    let either = |one: Kinds, two: Kinds| (left.only(one) && right.only(two)) || (left.only(two) && right.only(one));
    let float_and_decimal = either(Kinds::FLOAT, Kinds::DECIMAL);
    // Whole numbers join either side; a float and a decimal do not meet.
    let arithmetic = |whole: Kinds| match () {
        () if !both(number) || float_and_decimal => Kinds::NONE,
        () if left == Kinds::FLOAT || right == Kinds::FLOAT => Kinds::FLOAT,
        () if both(Kinds::INTEGER) => whole,
        () => Kinds::DECIMAL,
    };
    match operator {
        Operator::Add if both(Kinds::MONEY) || both(Kinds::DURATION) || both(Kinds::TEXT) || both(Kinds::LIST) => left,
        Operator::Add if either(Kinds::TIME, Kinds::DURATION) => Kinds::TIME,
        Operator::Subtract if both(Kinds::MONEY) => Kinds::MONEY,
        Operator::Subtract if both(Kinds::TIME) => Kinds::DURATION,
        Operator::Subtract if left == Kinds::TIME && right == Kinds::DURATION => Kinds::TIME,
        Operator::Multiply if either(Kinds::TEXT, Kinds::INTEGER) => Kinds::TEXT,
        Operator::Multiply if either(Kinds::LIST, Kinds::INTEGER) => Kinds::LIST,
        Operator::Multiply if either(Kinds::MONEY, exact) => Kinds::MONEY,
        Operator::Multiply if either(Kinds::DURATION, Kinds::INTEGER) => Kinds::DURATION,
        Operator::Divide if both(Kinds::MONEY) => Kinds::DECIMAL,
        Operator::Divide if left == Kinds::MONEY && right.only(exact) => Kinds::MONEY,
        Operator::Divide => arithmetic(exact),
        Operator::Add | Operator::Subtract | Operator::Multiply | Operator::FloorDivide | Operator::Remainder => {
            arithmetic(Kinds::INTEGER)
        }
        Operator::Power if right == Kinds::INTEGER && left.only(number.or(Kinds::MONEY)) => left,
        Operator::Power if both(Kinds::FLOAT) => Kinds::FLOAT,
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            let orders = Kinds::TEXT
                .or(Kinds::BOOL)
                .or(Kinds::TIME)
                .or(Kinds::DURATION)
                .or(Kinds::NULL)
                .or(Kinds::MONEY)
                .or(Kinds::LIST);
            let fits = (left == right && left.only(orders)) || (both(number) && !float_and_decimal);
            if fits { Kinds::BOOL } else { Kinds::NONE }
        }
        Operator::In | Operator::NotIn => {
            let holds = right.only(Kinds::LIST.or(Kinds::MAP).or(Kinds::NULL));
            let in_text = right == Kinds::TEXT && left == Kinds::TEXT;
            if holds || in_text { Kinds::BOOL } else { Kinds::NONE }
        }
        _ => Kinds::NONE,
    }
}
