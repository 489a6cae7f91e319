"""Follows a model's mode through a file: calls, and what rules DK401 and DK402 say of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import libcst as cst

from dropkit.audit.finding import Finding
from dropkit.audit.rules import dk401, dk402
from dropkit.audit.static.facts import AS_TRAINED, EVAL, TRAIN, UNKNOWN, Cell
from dropkit.audit.static.source import Source, children, dotted, methods_of, names_in, nodes, parts, words
from dropkit.audit.static.walk import EVALUATION, HELD, MEANT, StatementWalker

_SAME = {"to", "cuda", "cpu", "half", "float", "double", "bfloat16", "requires_grad_", "share_memory", "compile"}
_WRAPPERS = {"torch.nn.DataParallel", "torch.nn.parallel.DistributedDataParallel", "torch.compile", "copy.deepcopy"}
_HARMLESS = _WRAPPERS | {"print", "len", "str", "repr", "isinstance", "hasattr", "getattr", "id", "type", "torch.save",
                         "wandb.watch"}
_EXPLAINERS = ("captum.attr", "pytorch_grad_cam", "shap")
_SALIENCY = {"saliency", "attribution", "attributions", "explain", "explanation", "heatmap", "gradcam", "relevance",
             "importance", "sensitivity"}
_CALIBRATION = {"calibrate", "calibration", "calibrating", "calib"}
_STATISTICS = {"bn", "batchnorm", "norm", "statistics", "stats"}  # of BatchNorm, which are taken in training mode
_QUANTISES = re.compile(r"quanti[sz]", re.IGNORECASE)
_MODE_MATTERS = re.compile(r"drop|batch_?norm|transformer|import \*", re.IGNORECASE)
# Of torch.nn's classes those whose mode matters, or that may hold one: a loss has none.
_MODED = re.compile(r"Sequential|Module|Drop|BatchNorm|InstanceNorm|Transformer|MultiheadAttention|LSTM|GRU|RNN|RReLU")
_GENERATORS = {"g", "gen", "generator"}
_INNER = {"module", "_orig_mod"}  # what wrappers call the model that they wrap
_DEPTH = 4


class Walker(StatementWalker):
    """Reads a file. Findings are in `found`."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.pending: list[tuple[Cell, cst.Call]] = []
        self.steps: dict[tuple[Cell, cst.Call], list[frozenset[str]]] = {}
        self.explainers: dict[str, Cell] = {}
        self.leaves: set[str] = set()
        self.explainer: Cell | None = None
        self.quantises = bool(_QUANTISES.search(source.text))
        self.plain = not _MODE_MATTERS.search(source.text)

    def evaluate(self, node: cst.CSTNode) -> Cell | None:
        """Read an expression; return the model that it names."""
        if isinstance(node, cst.Call):
            return self._call(node)
        if isinstance(node, cst.Name | cst.Attribute):
            cell = self._lookup(dotted(node))
            if cell is not None or isinstance(node, cst.Name):
                return cell
        if isinstance(node, cst.Lambda):
            return None
        if isinstance(node, cst.Expr) and isinstance(node.value, cst.Attribute) and node.value.attr.value in ("train", "eval"):
            self._not_called(node.value)
        self._inside(node)
        return None

    def assign(self, target: cst.CSTNode, cell: Cell | None) -> None:
        """Let a variable name a model or what explains one."""
        if self.explainer is not None:
            self.explainers[dotted(target)], self.explainer = self.explainer, None
        super().assign(target, cell)

    def assigned(self, target: cst.CSTNode, value: cst.BaseExpression) -> None:
        """Let a variable name a tensor whose gradient is asked for."""
        if any(isinstance(found, cst.Call) and _asks_for_gradient(found) for found in nodes(value)):
            self.leaves.add(dotted(target))
        elif dotted(target).endswith(".requires_grad") and dotted(value) == "True":
            self.leaves.add(dotted(target).removesuffix(".requires_grad"))

    def _inside(self, node: cst.CSTNode) -> None:
        for child in parts(node):
            self.evaluate(child)

    def _lookup(self, name: str) -> Cell | None:
        names = self.frame.own if name.startswith("self.") else self.frame.names
        base, _, last = name.rpartition(".")
        if last in _INNER and base in names:
            return names[base]
        if name not in names and name != "self" and (name in self.moded or name in self.unmoded):
            names[name] = Cell(name)
        return names.get(name)

    def _call(self, node: cst.Call) -> Cell | None:
        cells = [self.evaluate(argument.value) for argument in node.args]
        cell = self._lookup(dotted(node.func))
        if cell is not None:
            self._forward(cell, node)
            return None
        if any(dotted(argument.value) == "self" for argument in node.args):
            self._forget(list(self.frame.own.values()))
        function, own = self._function(node.func)
        if function is not None:
            return self._enter(function, node, cells, own)
        if isinstance(node.func, cst.Attribute):
            base = self.evaluate(node.func.value)
            known, result = self._method(node, node.func, base)
            if known:
                return result
        return self._other(node, cells)

    def _function(self, func: cst.BaseExpression) -> tuple[cst.FunctionDef | None, bool]:
        name = dotted(func)
        if name in self.frame.functions:
            return self.frame.functions[name], False
        if name.startswith("self.") and self.frame.owner is not None:
            return methods_of(self.frame.owner).get(name[5:]), True
        return self.source.functions.get(name), False

    def _enter(self, function: cst.FunctionDef, node: cst.Call, cells: list[Cell | None], method: bool) -> Cell | None:
        if self.frame.depth >= _DEPTH:
            self._forget(cells)
            return None
        parameters = [found.name.value for found in (*function.params.posonly_params, *function.params.params)][int(method):]
        names = {} if method else {name: cell for name, cell in self.frame.names.items() if name not in parameters}
        for argument, cell, name in zip(node.args, cells, [*parameters, *[""] * len(cells)], strict=False):
            key = argument.keyword.value if argument.keyword is not None else name
            if cell is not None and key:
                names[key] = cell
        held = any(names_in(argument.value) & HELD for argument in node.args)
        return self.inline(function, names, held=held)

    def _method(self, node: cst.Call, func: cst.Attribute, base: Cell | None) -> tuple[bool, Cell | None]:
        name = func.attr.value
        if name == "backward":
            self._step()
            return True, None
        if name == "requires_grad_":
            self.leaves.add(dotted(func.value))
        explained = self.explainers.get(dotted(func.value))
        if explained is not None and name == "attribute":
            self._explain(explained, node)
        if name in ("train", "eval") and dotted(func.value) == "self":
            for cell in self.frame.own.values():
                self._switch(cell, node, name)
        if base is None:
            return False, None
        if name in ("train", "eval"):
            self._switch(base, node, name)
            self._relatives(dotted(func.value), node, name)
        elif name == "forward":
            self._forward(base, node)
        elif name == "load_state_dict":
            self.state.change(base, trained=True, loaded=not _copies(node))
        elif name == "apply" and not (node.args and words(dotted(node.args[0].value)) & {"init", "initialize", "weights"}):
            self._forget([base])
        return True, base if name in _SAME or name in ("train", "eval", "apply") else None

    def _other(self, node: cst.Call, cells: list[Cell | None]) -> Cell | None:
        name, models = self.source.resolved(node.func), [cell for cell in cells if cell is not None]
        built = self._built(node.func, name)
        if built is not None:
            return built
        if name in ("torch.quantization.prepare", "torch.ao.quantization.prepare") or name.endswith(
                ("quantization.prepare_fx", "quantize_fx.prepare_fx")):
            for cell in models:
                self.state.change(cell, prepared=True)
            return models[0] if models else None
        if name.startswith(_EXPLAINERS):
            self.explainer = models[0] if models else None
            return None
        if name not in _HARMLESS:
            self._forget(models)
        return models[0] if name in _WRAPPERS and models else None

    def _built(self, func: cst.BaseExpression, name: str) -> Cell | None:
        local = self.source.classes.get(dotted(func))
        own = local is not None and self.source.is_module(local) and not self.source.is_lightning(local)
        if own or (re.fullmatch(r"torch\.nn\.[A-Z]\w*", name) and name not in _WRAPPERS):
            cell = Cell(dotted(func), plain=self.plain or not (own or _MODED.search(name)))
        elif name == "timm.create_model" or re.fullmatch(r"torchvision\.models\.[a-z]\w*", name):
            cell = Cell(dotted(func))
        else:
            return None
        self.state.change(cell, mode=TRAIN)
        return cell

    def _forget(self, cells: Sequence[Cell | None]) -> None:
        for cell in cells:
            if cell is not None:
                self.state.change(cell, mode=UNKNOWN, switched=None)

    def _switch(self, cell: Cell, node: cst.Call, name: str) -> None:
        if name == "eval" and node.args:
            return  # not a module's
        given = dotted(node.args[0].value) if node.args else "True"
        mode = {"True": TRAIN, "False": EVAL}.get(given, UNKNOWN) if name == "train" else EVAL
        self.state.change(cell, mode=mode, trained=False, loaded=False, switched=node if mode == EVAL else None,
                          in_loop=self.context.loop)

    def _relatives(self, name: str, node: cst.Call, method: str) -> None:
        """A model's parts are switched with it; a model whose part is switched is in no one mode."""
        for names in (self.frame.names, self.frame.own):
            for other, cell in names.items():
                if other.startswith(f"{name}."):
                    self._switch(cell, node, method)
                elif name.startswith(f"{other}.") and name.rpartition(".")[2] not in _INNER:
                    self._forget([cell])

    def _forward(self, cell: Cell, node: cst.Call) -> None:
        facts = self.state[cell]
        said = {word for argument in node.args for word in names_in(argument.value)}
        evaluating = self.context.evaluating or bool(said & EVALUATION and self.context.no_grad)
        if not self.context.no_grad and not evaluating:
            self.pending.append((cell, node))
        if facts.mode not in (TRAIN, AS_TRAINED) or cell.plain:
            return
        judged = evaluating or self.context.phases or (facts.loaded and self.context.no_grad)
        meant = words(self.frame.name) & MEANT or words(self._name(node)) & _GENERATORS
        if judged and facts.trained and not facts.prepared and not meant:
            self._add(self._validated(node, facts.mode))
        if facts.mode == TRAIN:
            self._calibrated(cell, node)
            if {dotted(argument.value) for argument in node.args} & self.leaves and words(self.frame.name) & _SALIENCY:
                self._explain(cell, node)

    def _validated(self, node: cst.Call, mode: frozenset[str]) -> Finding:
        name = self._name(node)
        ending = "; no_grad() leaves dropout and BatchNorm as in training" if self.context.no_grad else ""
        advice = f"Call {name}.eval() before the evaluation and {name}.train() after it"
        if mode == AS_TRAINED:
            return dk401.RULE.finding(f"{name} is trained and evaluated in one mode, which is wrong in one of the two",
                                      self.source.place(node), advice, severity="warning", subject=self.frame.name)
        return dk401.RULE.finding(f"{name} is evaluated in training mode: no eval() since it was trained{ending}",
                                  self.source.place(node), advice, subject=self.frame.name)

    def _calibrated(self, cell: Cell, node: cst.Call) -> None:
        around = words(self.frame.name) | self.context.over
        if self.state[cell].prepared or (self.quantises and around & _CALIBRATION and not around & _STATISTICS
                                         and self.context.no_grad):
            self._add(dk402.RULE.finding(f"{self._name(node)} is calibrated for quantisation in training mode, so that the "
                                         "observers see dropped and scaled activations", self.source.place(node),
                                         f"Call {self._name(node)}.eval() before calibrating", subject=self.frame.name))

    def _explain(self, cell: Cell, node: cst.Call) -> None:
        if self.state[cell].mode == TRAIN and not cell.plain:
            self._add(dk402.RULE.finding("Saliency is computed in training mode, so that each mask gives another map",
                                         self.source.place(node), "Call eval() on the model before explaining it",
                                         subject=self.frame.name))

    def _step(self) -> None:
        for cell, node in self.pending:
            facts = self.state[cell]
            modes = self.steps.setdefault((cell, node), [])
            modes.append(facts.mode)
            if "eval" not in modes[0] and "eval" in facts.mode and facts.switched is not None and facts.in_loop:
                self._add(dk401.RULE.finding(
                    f"{self._name(node)} is trained in evaluation mode from the second pass of the loop on: no train() follows "
                    f"this eval() before the step in line {self.source.line(node)}", self.source.place(facts.switched),
                    f"Call {self._name(node)}.train() at the start of each epoch", subject=self.frame.name))
            as_trained = facts.mode == UNKNOWN and cell.name in self.unmoded
            self.state.change(cell, trained=True, loaded=False, **({"mode": AS_TRAINED} if as_trained else {}))
        self.pending.clear()

    def _not_called(self, node: cst.Attribute) -> None:
        name = dotted(node.value)
        if name in self.frame.names or name in self.frame.own or names_in(node.value) & {"model", "net", "network", "module"}:
            self._add(dk401.RULE.finding(f"{name}.{node.attr.value} is named and not called, which does nothing",
                                         self.source.place(node), f"Write {name}.{node.attr.value}()", subject=self.frame.name))

    def _name(self, node: cst.Call) -> str:
        return dotted(node.func).removesuffix(".forward") or "the model"

    def _add(self, finding: Finding) -> None:
        self.found.setdefault((finding.rule, finding.place.line or 0), finding)


def _copies(call: cst.Call) -> bool:
    """Whether weights are another model's, as a teacher's or a target's are."""
    return any(isinstance(found, cst.Attribute) and found.attr.value == "state_dict" for found in nodes(call.args[0])
               ) if call.args else False


def _asks_for_gradient(call: cst.Call) -> bool:
    if isinstance(call.func, cst.Attribute) and call.func.attr.value == "requires_grad_":
        return True
    return any(found.keyword is not None and found.keyword.value == "requires_grad" and dotted(found.value) == "True"
               for found in call.args)


def follow(source: Source) -> Iterator[Finding]:
    """What rules DK401 and DK402 find in a file."""
    walker = Walker(source)
    walker.block(children(source.tree))
    found = dict(walker.found)
    for owner, function in _functions(source):
        walker = Walker(source)
        walker.inline(function, {}, {}, owner)
        found = {**walker.found, **found}
    yield from found.values()


def _functions(source: Source) -> Iterator[tuple[cst.ClassDef | None, cst.FunctionDef]]:
    for function in source.functions.values():
        yield None, function
    for owner in source.classes.values():
        if not source.is_lightning(owner):
            yield from ((owner, found) for found in methods_of(owner).values())
