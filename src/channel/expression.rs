//! `when`: a rhai expression over one message, compiled once.
//!
//! An expression sees the values at the paths it names and nothing else: no file, no clock, no other message, no script
//! functions, no loops. What it may use of time and memory is bounded, and every path in it is checked when it is
//! compiled, so that a message never meets a mistyped one.

use std::sync::{Arc, LazyLock};

use rhai::{
    AST, Array, Dynamic, Engine, EvalAltResult, ImmutableString, Position, Scope,
    packages::{
        ArithmeticPackage, BasicArrayPackage, BasicMathPackage, BasicStringPackage, LogicPackage, MoreStringPackage,
        Package,
    },
};

use super::literal::{Named, named_paths};
use crate::hl7::{Message, Path};

/// Operations one evaluation may take.
pub const OPERATIONS_MAX: u64 = 100_000;
/// Bytes of one text an expression may hold; a longer value makes it fail.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Elements of one array, which is also the number of values `msg.all` may give.
pub const ARRAY_MAX: usize = 10_000;
/// Nesting of an expression.
pub const DEPTH_MAX: usize = 32;

/// A compiled `when`.
pub struct Expression {
    ast: AST,
    first: Vec<(ImmutableString, Path)>,
    all: Vec<(ImmutableString, Path)>,
}

/// Why a text is not an expression, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at line {line}, character {column}")]
pub struct ExpressionError {
    /// What is wrong.
    pub what: String,
    /// Line in the expression, from 1.
    pub line: usize,
    /// Character in the line, from 1.
    pub column: usize,
}

impl Expression {
    /// Compiles `text`, checks the paths in it, and tries it on a message in which nothing is filled: what fails there
    /// (an unknown function, a number read from an empty text) would fail on some message later.
    pub fn compile(text: &str) -> Result<Expression, ExpressionError> {
        let mut scope = Scope::new();
        scope.push_constant("msg", Values::default());
        let ast = ENGINE.compile_expression_with_scope(&scope, text).map_err(|error| {
            let what = lower_first(&error.err_type().to_string());
            at(what, error.position())
        })?;
        let mut expression = Expression { ast, first: Vec::new(), all: Vec::new() };
        for named in named_paths(text)? {
            expression.take(named)?;
        }
        expression.dry_run()?;
        Ok(expression)
    }

    /// Whether it holds for the message. The error says why it could not be told, without content.
    pub fn holds(&self, message: &Message) -> Result<bool, String> {
        let text = |raw: &[u8]| ImmutableString::from(message.text(raw).as_ref());
        let first = self.first.iter().map(|(name, path)| {
            let value = message.first(path).map(text).unwrap_or_default();
            (name.clone(), value)
        });
        let all = self.all.iter().map(|(name, path)| {
            let values = message.values(path).into_iter().map(|raw| Dynamic::from(text(raw)));
            (name.clone(), values.collect::<Array>())
        });
        self.evaluate(Values(Arc::new(Found { first: first.collect(), all: all.collect() }))).map_err(|e| reason(&e).0)
    }

    fn take(&mut self, named: Named) -> Result<(), ExpressionError> {
        let path = Path::parse(&named.text).map_err(|error| ExpressionError {
            what: format!("{:?} is not a path: {}", named.text, error.what),
            line: named.line,
            column: named.column + 1 + error.at,
        })?;
        let known = if named.all { &mut self.all } else { &mut self.first };
        if !known.iter().any(|(name, _)| *name == named.text.as_str()) {
            known.push((named.text.as_str().into(), path));
        }
        Ok(())
    }

    fn dry_run(&self) -> Result<(), ExpressionError> {
        let first = self.first.iter().map(|(name, _)| (name.clone(), ImmutableString::default())).collect();
        let all = self.all.iter().map(|(name, _)| (name.clone(), Array::new())).collect();
        self.evaluate(Values(Arc::new(Found { first, all }))).map(|_| ()).map_err(|error| {
            let (what, position) = reason(&error);
            at(format!("{what} (tried on a message in which no field is filled)"), position)
        })
    }

    fn evaluate(&self, values: Values) -> Result<bool, Box<EvalAltResult>> {
        let mut scope = Scope::new();
        scope.push_constant("msg", values);
        ENGINE.eval_ast_with_scope::<bool>(&mut scope, &self.ast)
    }
}

/// `msg` as an expression sees it.
#[derive(Clone, Default)]
struct Values(Arc<Found>);

#[derive(Default)]
struct Found {
    first: Vec<(ImmutableString, ImmutableString)>,
    all: Vec<(ImmutableString, Array)>,
}

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut engine = Engine::new_raw();
    for module in [
        ArithmeticPackage::new().as_shared_module(),
        BasicArrayPackage::new().as_shared_module(),
        BasicMathPackage::new().as_shared_module(),
        BasicStringPackage::new().as_shared_module(),
        LogicPackage::new().as_shared_module(),
        MoreStringPackage::new().as_shared_module(),
    ] {
        engine.register_global_module(module);
    }
    engine
        .set_max_operations(OPERATIONS_MAX)
        .set_max_string_size(TEXT_BYTES_MAX)
        .set_max_array_size(ARRAY_MAX)
        .set_max_expr_depths(DEPTH_MAX, DEPTH_MAX)
        .set_max_call_levels(8)
        .set_strict_variables(true)
        .set_allow_anonymous_fn(false)
        .set_allow_looping(false)
        .set_allow_statement_expression(false);
    for symbol in ["eval", "print", "debug", "import", "fn"] {
        engine.disable_symbol(symbol);
    }
    engine
        .register_type_with_name::<Values>("message")
        .register_indexer_get(|values: &mut Values, name: &str| find(&values.0.first, name))
        .register_fn("all", |values: &mut Values, name: &str| find(&values.0.all, name));
    engine
});

fn find<T: Clone + Default>(known: &[(ImmutableString, T)], name: &str) -> T {
    known.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone()).unwrap_or_default()
}

/// What failed, in words that hold nothing of the message: rhai's own texts can quote values.
fn reason(error: &EvalAltResult) -> (String, Position) {
    let what = match error {
        EvalAltResult::ErrorFunctionNotFound(signature, _) => format!("no such function or operator: {signature}"),
        EvalAltResult::ErrorMismatchOutputType(_, found, _) => {
            format!("the expression gives a {found}, not true or false")
        }
        EvalAltResult::ErrorMismatchDataType(wanted, found, _) => format!("a {found} where a {wanted} was expected"),
        EvalAltResult::ErrorTooManyOperations(_) => {
            format!("the expression takes more than {OPERATIONS_MAX} operations")
        }
        EvalAltResult::ErrorDataTooLarge(..) => {
            format!("a text is over {TEXT_BYTES_MAX} bytes or a list over {ARRAY_MAX} values")
        }
        EvalAltResult::ErrorVariableNotFound(name, _) => format!("no such variable: {name}; a message is `msg`"),
        EvalAltResult::ErrorArithmetic(..) => "the arithmetic cannot be done".to_owned(),
        _ => "the expression fails when it is evaluated".to_owned(),
    };
    (what, error.position())
}

fn at(what: String, position: Position) -> ExpressionError {
    ExpressionError { what, line: position.line().unwrap_or(1), column: position.position().unwrap_or(1) }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}
