//! Reads Python pickles without running anything in them.
//!
//! The machine follows the opcodes of protocols 2 to 5 (CPython, `Lib/pickletools.py`) and builds a graph: a call (REDUCE, NEWOBJ)
//! becomes a node that names its class and arguments, and whoever reads the graph decides what it means. Globals are checked against
//! the reader's allow-list as they are met. Values live in one table and refer to each other by index, so that deep nesting and
//! cycles, both legal in a pickle, cost no recursion here. Byte strings stay in the file: a pickle may hold whole networks in them.

use super::source::Source;
use std::collections::HashMap;

/// Memory for the graph: so much above the size of the file that the pickle is in, and at most `MAX_MEMORY`. What the largest known ones
/// (networks and state of a 1024 px training) need is 0.1 kB for each of their 0.4 MB of structure.
const EXTRA_MEMORY: u64 = 20 << 20;
const MAX_MEMORY: u64 = 256 << 20;
/// Read at a time. Structure stands between storages of megabytes, so that more would mostly be skipped.
const WINDOW: usize = 8 << 10;
/// A global's module or name.
const MAX_NAME: usize = 1 << 10;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Index into [`Pickle::nodes`].
    Node(u32),
}

#[derive(Debug)]
pub(super) enum Node {
    Str(Box<str>),
    /// A byte string, by its place in the file; also integers beyond 64 bits.
    Bytes {
        start: u64,
        len: u64,
    },
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Set,
    Dict(Vec<(Value, Value)>),
    Global {
        module: Box<str>,
        name: Box<str>,
    },
    Object(Box<Object>),
    /// What the pickler's `persistent_id` gave: for PyTorch a reference to a storage.
    Persistent(Value),
}

/// The result of calling `class` with `args`, and what was put into it afterwards.
#[derive(Debug)]
pub(super) struct Object {
    pub class: Value,
    pub args: Value,
    /// The argument of BUILD: for most objects the dict of attributes.
    pub state: Option<Value>,
    /// What SETITEM(S) put in, as for an OrderedDict.
    pub items: Vec<(Value, Value)>,
}

#[derive(Debug)]
pub(super) struct Pickle {
    nodes: Vec<Node>,
    pub root: Value,
    /// The byte after the pickle.
    pub end: u64,
    /// What is left of the memory that was allowed, in bytes.
    pub memory: usize,
}

#[derive(Debug, PartialEq)]
pub(super) enum PickleError {
    /// Broken, truncated, or an opcode that no supported pickler writes.
    Broken(String),
    /// `module.name` is not on the reader's list.
    Global(String),
}

type Result<T> = std::result::Result<T, PickleError>;

fn broken<T>(message: impl Into<String>) -> Result<T> {
    Err(PickleError::Broken(message.into()))
}

impl Pickle {
    /// The memory that a file's main pickle may take, in bytes.
    pub fn allowance(source: &Source) -> usize {
        source.len.saturating_add(EXTRA_MEMORY).min(MAX_MEMORY) as usize
    }

    /// Follows the opcodes in bytes `start .. end` of the source up to STOP. The graph may take `memory` bytes; `allow(module, name)` says
    /// which globals may occur.
    pub fn read(source: &Source, start: u64, end: u64, memory: usize, allow: &dyn Fn(&str, &str) -> bool) -> Result<Self> {
        let end = end.min(source.len);
        let bytes = Bytes { source, at: start, end, window: Vec::new(), start };
        Machine { bytes, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), nodes: Vec::new(), memory, allow }.run()
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(i) => self.nodes.get(i as usize),
            _ => None,
        }
    }

    pub fn str(&self, value: Value) -> Option<&str> {
        match self.node(value) {
            Some(Node::Str(s)) => Some(s),
            _ => None,
        }
    }

    pub fn tuple(&self, value: Value) -> Option<&[Value]> {
        match self.node(value) {
            Some(Node::Tuple(items)) => Some(items),
            _ => None,
        }
    }

    pub fn list(&self, value: Value) -> Option<&[Value]> {
        match self.node(value) {
            Some(Node::List(items)) => Some(items),
            _ => None,
        }
    }

    pub fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.node(value) {
            Some(Node::Dict(items)) => Some(items),
            _ => None,
        }
    }

    /// What dict `value` has under `key`: the last, as in Python.
    pub fn get(&self, value: Value, key: &str) -> Option<Value> {
        self.dict(value)?.iter().rev().find(|&&(name, _)| self.str(name) == Some(key)).map(|&(_, value)| value)
    }

    pub fn global(&self, value: Value) -> Option<(&str, &str)> {
        match self.node(value) {
            Some(Node::Global { module, name }) => Some((module, name)),
            _ => None,
        }
    }
}

/// The bytes of a pickle in order, through a window.
struct Bytes<'a> {
    source: &'a Source,
    at: u64,
    end: u64,
    window: Vec<u8>,
    /// Where the window begins.
    start: u64,
}

impl Bytes<'_> {
    /// The next `n` bytes, of at most the window's size, as a range of the window.
    fn next(&mut self, n: usize) -> Result<&[u8]> {
        let rest = self.end.saturating_sub(self.at);
        if n as u64 > rest {
            return broken(format!("truncated: ends before byte {} + {n}", self.at));
        }
        let inside = self.at.checked_sub(self.start).filter(|i| i + n as u64 <= self.window.len() as u64);
        let inside = match inside {
            Some(i) => i as usize,
            None => {
                self.window.resize(rest.min(WINDOW as u64) as usize, 0);
                self.start = self.at;
                self.source.read(self.at, &mut self.window).or_else(|e| broken(e.to_string()))?;
                0
            }
        };
        self.at += n as u64;
        Ok(&self.window[inside..inside + n])
    }

    /// Leaves out `n` bytes and says where they begin.
    fn skip(&mut self, n: u64) -> Result<u64> {
        let start = self.at;
        match start.checked_add(n).filter(|&after| after <= self.end) {
            Some(after) => self.at = after,
            None => return broken(format!("truncated: ends before byte {start} + {n}")),
        }
        Ok(start)
    }
}

struct Machine<'a, 'f> {
    bytes: Bytes<'a>,
    stack: Vec<Value>,
    /// Stack heights at the MARKs that are open.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    nodes: Vec<Node>,
    /// Bytes that may still be spent on the graph.
    memory: usize,
    allow: &'f dyn Fn(&str, &str) -> bool,
}

impl Machine<'_, '_> {
    fn run(mut self) -> Result<Pickle> {
        loop {
            let at = self.bytes.at;
            let opcode = self.byte()?;
            match opcode {
                b'.' => {
                    let root = self.pop()?;
                    return Ok(Pickle { nodes: self.nodes, root, end: self.bytes.at, memory: self.memory });
                }
                0x80 => {
                    let protocol = self.byte()?;
                    if !(2..=5).contains(&protocol) {
                        return broken(format!("pickle protocol {protocol}, where 2 to 5 are read"));
                    }
                }
                // FRAME: only says how far to read ahead.
                0x95 => {
                    self.bytes.skip(8)?;
                }
                b'(' => {
                    self.spend(3 * size_of::<usize>())?;
                    self.marks.push(self.stack.len());
                }
                b'0' => {
                    self.pop()?;
                }
                b'1' => {
                    self.pop_to_mark()?;
                }
                b'2' => {
                    let top = self.top()?;
                    self.push(top)?;
                }
                b'N' => self.push(Value::None)?,
                0x88 => self.push(Value::Bool(true))?,
                0x89 => self.push(Value::Bool(false))?,
                b'J' => {
                    let n = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(n.into()))?;
                }
                b'K' => {
                    let n = self.byte()?;
                    self.push(Value::Int(n.into()))?;
                }
                b'M' => {
                    let n = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(n.into()))?;
                }
                0x8a => {
                    let n = self.byte()?;
                    self.long(n.into())?;
                }
                0x8b => {
                    let n = self.length4()?;
                    self.long(n)?;
                }
                b'G' => {
                    let x = f64::from_be_bytes(self.array()?);
                    self.push(Value::Float(x))?;
                }
                b'X' | b'T' => {
                    let n = self.length4()?;
                    self.text(n, opcode == b'X')?;
                }
                0x8c | b'U' => {
                    let n = self.byte()?;
                    self.text(n.into(), opcode == 0x8c)?;
                }
                0x8d => {
                    let n = self.length8()?;
                    self.text(n, true)?;
                }
                b'B' => {
                    let n = self.length4()?;
                    self.byte_string(n)?;
                }
                b'C' => {
                    let n = self.byte()?;
                    self.byte_string(n.into())?;
                }
                0x8e | 0x96 => {
                    let n = self.length8()?;
                    self.byte_string(n)?;
                }
                b']' => self.new_node(Node::List(Vec::new()))?,
                b'}' => self.new_node(Node::Dict(Vec::new()))?,
                0x8f => self.new_node(Node::Set)?,
                b')' => self.new_node(Node::Tuple(Vec::new()))?,
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.tuple(items)?;
                }
                0x85..=0x87 => {
                    let n = usize::from(opcode - 0x84);
                    let items = self.pop_n(n)?;
                    self.tuple(items)?;
                }
                b'l' => {
                    let items = self.pop_to_mark()?;
                    self.spend(3 * items.len() * size_of::<Value>())?;
                    self.new_node(Node::List(items))?;
                }
                b'd' => {
                    let items = self.pop_to_mark()?;
                    self.new_node(Node::Dict(Vec::new()))?;
                    self.set_items(items)?;
                }
                0x91 => {
                    self.pop_to_mark()?;
                    self.new_node(Node::Set)?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.append(items)?;
                }
                b's' => {
                    let items = self.pop_n(2)?;
                    self.set_items(items)?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.set_items(items)?;
                }
                // ADDITEMS: sets hold nothing that this library wants.
                0x90 => {
                    self.pop_to_mark()?;
                }
                b'c' => {
                    let module = self.line()?;
                    let name = self.line()?;
                    self.global(module, name)?;
                }
                0x93 => {
                    let pair = self.pop_n(2)?;
                    match (self.str_of(pair[0]), self.str_of(pair[1])) {
                        (Some(module), Some(name)) if module.len() <= MAX_NAME && name.len() <= MAX_NAME => {
                            let (module, name) = (module.into(), name.into());
                            self.global(module, name)?;
                        }
                        _ => return broken(format!("byte {at}: a global whose name is not text")),
                    }
                }
                b'R' | 0x81 => {
                    let pair = self.pop_n(2)?;
                    self.object(pair[0], pair[1])?;
                }
                // NEWOBJ_EX: the keyword arguments are not wanted.
                0x92 => {
                    let triple = self.pop_n(3)?;
                    self.object(triple[0], triple[1])?;
                }
                b'b' => {
                    let state = self.pop()?;
                    match self.top_node()? {
                        Node::Object(object) => object.state = Some(state),
                        _ => return broken(format!("byte {at}: attributes for something that has none")),
                    }
                }
                b'h' => {
                    let key = self.byte()?;
                    self.recall(key.into())?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.recall(key)?;
                }
                b'q' => {
                    let key = self.byte()?;
                    self.memorize(key.into())?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.memorize(key)?;
                }
                0x94 => {
                    let key = self.memo.len() as u32;
                    self.memorize(key)?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.new_node(Node::Persistent(id))?;
                }
                _ => return broken(format!("byte {at}: opcode 0x{opcode:02x}, which no supported pickle has")),
            }
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes.next(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn length4(&mut self) -> Result<u64> {
        Ok(u32::from_le_bytes(self.array()?).into())
    }

    fn length8(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn line(&mut self) -> Result<Box<str>> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                _ if line.len() == MAX_NAME => return broken(format!("a global's name of more than {MAX_NAME} bytes")),
                byte => line.push(byte),
            }
        }
        match String::from_utf8(line) {
            Ok(line) => Ok(line.into()),
            Err(_) => broken("a global's name is not UTF-8"),
        }
    }

    /// Counts memory before it is used.
    fn spend(&mut self, bytes: usize) -> Result<()> {
        match self.memory.checked_sub(bytes) {
            Some(rest) => {
                self.memory = rest;
                Ok(())
            }
            None => broken("needs far more memory than a checkpoint of its size"),
        }
    }

    /// A value on the stack, which doubles as it grows and is copied then.
    fn push(&mut self, value: Value) -> Result<()> {
        self.spend(3 * size_of::<Value>())?;
        self.stack.push(value);
        Ok(())
    }

    fn new_node(&mut self, node: Node) -> Result<()> {
        self.spend(3 * size_of::<Node>())?;
        let index = self.nodes.len() as u32;
        self.nodes.push(node);
        self.push(Value::Node(index))
    }

    /// Elements above the innermost MARK belong to it: nothing pops below.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop_n(&mut self, n: usize) -> Result<Vec<Value>> {
        match self.stack.len().checked_sub(n) {
            Some(start) if start >= self.floor() => {
                self.memory += 3 * n * size_of::<Value>();
                Ok(self.stack.split_off(start))
            }
            _ => broken(format!("byte {}: takes from an empty stack", self.bytes.at)),
        }
    }

    fn pop(&mut self) -> Result<Value> {
        Ok(self.pop_n(1)?[0])
    }

    fn top(&self) -> Result<Value> {
        match self.stack.last() {
            Some(&value) if self.stack.len() > self.floor() => Ok(value),
            _ => broken(format!("byte {}: takes from an empty stack", self.bytes.at)),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        match self.marks.pop() {
            Some(height) if height <= self.stack.len() => {
                self.memory += 3 * (self.stack.len() - height) * size_of::<Value>();
                Ok(self.stack.split_off(height))
            }
            _ => broken(format!("byte {}: no mark on the stack", self.bytes.at)),
        }
    }

    fn top_node(&mut self) -> Result<&mut Node> {
        let at = self.bytes.at;
        match self.top()? {
            Value::Node(i) => match self.nodes.get_mut(i as usize) {
                Some(node) => Ok(node),
                None => broken(format!("byte {at}: no such value")),
            },
            _ => broken(format!("byte {at}: a plain value where a container was expected")),
        }
    }

    fn str_of(&self, value: Value) -> Option<&str> {
        match value {
            Value::Node(i) => match self.nodes.get(i as usize) {
                Some(Node::Str(s)) => Some(s),
                _ => None,
            },
            _ => None,
        }
    }

    fn tuple(&mut self, items: Vec<Value>) -> Result<()> {
        self.spend(3 * items.len() * size_of::<Value>())?;
        self.new_node(Node::Tuple(items))
    }

    fn byte_string(&mut self, len: u64) -> Result<()> {
        let start = self.bytes.skip(len)?;
        self.new_node(Node::Bytes { start, len })
    }

    fn text(&mut self, n: u64, unicode: bool) -> Result<()> {
        let start = self.bytes.skip(n)?;
        // Beyond what the machine may keep (a module's source text is 0.1 MB) it is as good as a byte string.
        let Some(size) = usize::try_from(n).ok().filter(|&size| size < self.memory / 4) else {
            return self.new_node(Node::Bytes { start, len: n });
        };
        // What is read, and the text made of it.
        self.spend(2 * size)?;
        let mut bytes = vec![0; size];
        self.bytes.source.read(start, &mut bytes).or_else(|e| broken(e.to_string()))?;
        match String::from_utf8(bytes) {
            Ok(text) => self.new_node(Node::Str(text.into())),
            // Python writes lone surrogates as three bytes that are not UTF-8; byte strings of Python 2 hold anything.
            Err(_) if !unicode => self.new_node(Node::Bytes { start, len: n }),
            Err(_) => broken(format!("byte {start}: text that is not UTF-8")),
        }
    }

    fn long(&mut self, n: u64) -> Result<()> {
        if n > 8 {
            return self.byte_string(n);
        }
        let n = n as usize;
        let mut array = [0; 8];
        array[..n].copy_from_slice(self.bytes.next(n)?);
        if n > 0 && array[n - 1] & 0x80 != 0 {
            array[n..].fill(0xff);
        }
        self.push(Value::Int(i64::from_le_bytes(array)))
    }

    fn global(&mut self, module: Box<str>, name: Box<str>) -> Result<()> {
        if !(self.allow)(&module, &name) {
            return Err(PickleError::Global(format!("{module}.{name}").chars().take(200).collect()));
        }
        self.spend(module.len() + name.len())?;
        self.new_node(Node::Global { module, name })
    }

    fn object(&mut self, class: Value, args: Value) -> Result<()> {
        self.spend(size_of::<Object>() + 16)?;
        self.new_node(Node::Object(Box::new(Object { class, args, state: None, items: Vec::new() })))
    }

    fn append(&mut self, items: Vec<Value>) -> Result<()> {
        self.spend(3 * items.len() * size_of::<Value>())?;
        let at = self.bytes.at;
        match self.top_node()? {
            Node::List(list) => list.extend(items),
            _ => return broken(format!("byte {at}: appends to something that is not a list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Value>) -> Result<()> {
        self.spend(3 * items.len() * size_of::<Value>())?;
        let at = self.bytes.at;
        if !items.len().is_multiple_of(2) {
            return broken(format!("byte {at}: a key without a value"));
        }
        let pairs = items.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        match self.top_node()? {
            Node::Dict(dict) => dict.extend(pairs),
            Node::Object(object) => object.items.extend(pairs),
            _ => return broken(format!("byte {at}: sets items of something that is not a dict")),
        }
        Ok(())
    }

    fn memorize(&mut self, key: u32) -> Result<()> {
        let top = self.top()?;
        self.spend(4 * size_of::<(u32, Value)>())?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        match self.memo.get(&key) {
            Some(&value) => self.push(value),
            None => broken(format!("byte {}: recalls memo {key}, which was never set", self.bytes.at)),
        }
    }
}
