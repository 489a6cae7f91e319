"""Programs for the static scan: with a mistake, its rule and line, and without one. Each follows `HEAD`."""

HEAD = """\
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)


"""
STEP = "for x, y in loader: F.cross_entropy(model(x), y).backward()"

BAD = {
    "no eval in a function that is called": ("""
        def train(model, loader):
            model.train()
            for x, y in loader:
                F.cross_entropy(model(x), y).backward()

        @torch.no_grad()
        def validate(model, loader):
            return sum(model(x).sum() for x, y in loader) + model(loader.first)

        def main(loader, held):
            net = Net()
            for epoch in range(3):
                train(net, loader)
                validate(net, held)
        """, ("DK401", "return sum(model(x).sum() for x, y in loader) + model(loader.first)")),
    "a script without eval": ("""
        model = Net().to("cuda")
        for epoch in range(3):
            for x, y in train_loader:
                loss = F.cross_entropy(model(x), y)
                loss.backward()
        for x, y in test_loader:
            out = model(x)
        """, ("DK401", "out = model(x)")),
    "weights are loaded and eval is forgotten": ("""
        def evaluate(model, loader):
            with torch.no_grad():
                for x in loader:
                    model(x)

        model = Net()
        model.load_state_dict(torch.load("weights.pt"))
        evaluate(model, loader)
        """, ("DK401", "model(x)")),
    "no return to train": ("""
        def fit(model, loader, val_loader):
            model.train()
            for epoch in range(3):
                for x, y in loader:
                    F.cross_entropy(model(x), y).backward()
                model.eval()
                with torch.no_grad():
                    for x, y in val_loader:
                        model(x)
        """, ("DK401", "model.eval()")),
    "no return to train after a called evaluation": ("""
        def evaluate(model, val_loader):
            model.eval()
            for x in val_loader:
                model(x)

        def fit(loader, val_loader):
            model = Net()
            for epoch in range(3):
                for x, y in loader:
                    F.cross_entropy(model(x), y).backward()
                if epoch % 2:
                    evaluate(model, val_loader)
        """, ("DK401", "model.eval()")),
    "a trainer class": ("""
        class Trainer:
            def run(self):
                self.model.train()
                for epoch in range(3):
                    for x, y in self.loader:
                        F.cross_entropy(self.model(x), y).backward()
                    self.check()

            def check(self):
                self.model.eval()
        """, ("DK401", "self.model.eval()")),
    "eval is named and not called": ("""
        def check(model, loader):
            model.eval
            return [model(x) for x in loader]
        """, ("DK401", "model.eval")),
    "train(True) before a validation": ("""
        def fit(model, loader, valid_set):
            model.train(True)
            for x, y in loader:
                F.cross_entropy(model(x), y).backward()
            with torch.inference_mode():
                print(model(valid_set.x))
        """, ("DK401", "print(model(valid_set.x))")),
    "captum in training mode": ("""
        from captum.attr import Saliency

        def explain(x):
            model = Net()
            method = Saliency(model)
            return method.attribute(x)
        """, ("DK402", "return method.attribute(x)")),
    "saliency by hand": ("""
        def saliency_map(x):
            model = Net()
            model.train()
            x.requires_grad_()
            model(x).max().backward()
            return x.grad.abs()
        """, ("DK402", "model(x).max().backward()")),
    "held-out data is measured by a function of any name": ("""
        def score(network, batches):
            return sum((network(x).argmax(-1) == y).sum().item() for x, y in batches)

        def fit(network, batches, validation):
            network.train()
            for x, y in batches:
                F.cross_entropy(network(x), y).backward()
            print(score(network, validation))
        """, ("DK401", "return sum((network(x).argmax(-1) == y).sum().item() for x, y in batches)")),
    "a function without gradients is given held-out data": ("""
        class Trainer:
            def run(self, batches, heldout):
                self.model.train()
                for x in batches:
                    self.model(x).sum().backward()
                return self.perplexity(heldout)

            @torch.inference_mode()
            def perplexity(self, batches):
                return torch.stack([self.model(x).mean() for x in batches])
        """, ("DK401", "return torch.stack([self.model(x).mean() for x in batches])")),
    "one function trains and validates, and no mode is ever set": ("""
        def fit(net, optimizer, batches, valid_batches):
            for epoch in range(3):
                for x, y in batches:
                    F.cross_entropy(net(x), y).backward()
                    optimizer.step()
                with torch.no_grad():
                    for x, y in valid_batches:
                        print(net(x))
        """, ("DK401", "print(net(x))")),
    "a method trains, another validates, and no mode is ever set": ("""
        class Trainer:
            def fit(self):
                for x in self.batches:
                    self.network(x).sum().backward()
                self.validate()

            def validate(self):
                for x in self.batches:
                    print(self.network(x))
        """, ("DK401", "print(self.network(x))")),
    "a copy's gradient is the saliency": ("""
        def feature_importance(net, picture):
            net.train()
            leaf = picture.detach().clone().requires_grad_(True)
            net(leaf).max().backward()
            return leaf.grad
        """, ("DK402", "net(leaf).max().backward()")),
    "a flag asks for the saliency's gradient": ("""
        def heatmap(net, picture):
            net.train()
            picture.requires_grad = True
            out = net(picture)
            out.max().backward()
            return picture.grad
        """, ("DK402", "out = net(picture)")),
    "ranges are calibrated in training mode": ("""
        import quantizer

        def observe_ranges(net, calib_loader):
            net.train()
            with torch.inference_mode():
                for x, _ in calib_loader:
                    net(x)
            return quantizer.freeze(net)
        """, ("DK402", "net(x)")),
    "loaded weights are used without eval()": ("""
        model = Net()
        model.load_state_dict(torch.load("best.pt"))
        with torch.no_grad():
            print(model(torch.ones(2)))
        """, ("DK401", "print(model(torch.ones(2)))")),
    "a prediction in training mode": ("""
        def predict(model, x):
            return model(x).argmax(-1)

        def main(loader, x):
            model = Net()
            for batch in loader:
                model(batch).sum().backward()
            return predict(model, x)
        """, ("DK401", "return model(x).argmax(-1)")),
    "two phases in one mode": ("""
        def fit(model, loaders, optimizer):
            model.train()
            for epoch in range(3):
                for phase in ["train", "val"]:
                    for x, y in loaders[phase]:
                        with torch.set_grad_enabled(phase == "train"):
                            loss = F.cross_entropy(model(x), y)
                            if phase == "train":
                                loss.backward()
        """, ("DK401", "loss = F.cross_entropy(model(x), y)")),
    "functional dropout": ("""
        class Block(nn.Module):
            def forward(self, x):
                return F.dropout(x, 0.5)
        """, ("DK101", "return F.dropout(x, 0.5)")),
    "functional dropout in a method that forward calls": ("""
        from torch.nn.functional import dropout2d as thin

        class Block(Net):
            def forward(self, x):
                return self.head(x)

            def head(self, x):
                return thin(x, p=0.1)
        """, ("DK101", "return thin(x, p=0.1)")),
    "attention": ("""
        class Attention(nn.Module):
            def forward(self, q):
                return F.scaled_dot_product_attention(q, q, q, dropout_p=self.p)
        """, ("DK101", "return F.scaled_dot_product_attention(q, q, q, dropout_p=self.p)")),
    "dropout built in forward": ("""
        class Block(nn.Module):
            def forward(self, x):
                drop = nn.Dropout(0.5)
                return drop(x)
        """, ("DK101", "return drop(x)")),
}
GOOD = {
    "unknown mode": f"""
        def validate(model, val_loader):
            with torch.no_grad():
                for x in val_loader:
                    model(x)

        def train(model, loader):
            {STEP}
        """,
    "train(False)": f"""
        def fit(model, loader, val_loader):
            model.train()
            {STEP}
            model.train(False)
            for x in val_loader:
                model(x)
        """,
    "a context manager takes care": f"""
        from tools import evaluating

        def fit(model, loader, val_loader):
            model.train()
            {STEP}
            with evaluating(model), torch.no_grad():
                for x in val_loader:
                    model(x)
        """,
    "an unknown function may switch": f"""
        from tools import set_mode

        def fit(model, loader, val_loader):
            model.train()
            {STEP}
            set_mode(model, "eval")
            for x in val_loader:
                model(x)
        """,
    "lightning": f"""
        import lightning as L

        class Task(L.LightningModule):
            def fit(self, model, loader, val_loader):
                model.train()
                {STEP}
                for x in val_loader:
                    model(x)
        """,
    "phases": """
        def fit(model, loaders, optimizer):
            for epoch in range(3):
                for phase in ["train", "val"]:
                    if phase == "train":
                        model.train()
                    else:
                        model.eval()
                    for x, y in loaders[phase]:
                        with torch.set_grad_enabled(phase == "train"):
                            loss = F.cross_entropy(model(x), y)
                            if phase == "train":
                                loss.backward()
        """,
    "a mode by argument": f"""
        def run(model, loader, training):
            model.train(training)
            {STEP}
            for x in loader.validation:
                model(x)
        """,
    "train at the end": """
        def fit(model, loader, val_loader):
            model.train()
            for epoch in range(3):
                for x, y in loader:
                    F.cross_entropy(model(x), y).backward()
                try:
                    model.eval()
                    for x in val_loader:
                        model(x)
                finally:
                    model.train()
        """,
    "Monte-Carlo": f"""
        def mc_dropout(model, loader, test_loader):
            model.train()
            {STEP}
            with torch.no_grad():
                for x in test_loader:
                    model(x)
        """,
    "train() in front of an evaluation is meant": """
        def evaluate(model, test_loader):
            model.train()
            with torch.no_grad():
                for x in test_loader:
                    model(x)
        """,
    "the owner is switched": """
        class Task(nn.Module):
            def fit(self, loader, val_loader):
                self.net.train()
                for x in loader:
                    self.net(x).sum().backward()
                self.eval()
                for x in val_loader:
                    self.net(x)
        """,
    "models are switched in a loop": """
        def fit(models, model, loader, val_loader):
            model.train()
            for x in loader:
                model(x).sum().backward()
            for one in models:
                one.eval()
            for x in val_loader:
                model(x)
        """,
    "the wrapped model is switched": """
        def fit(loader, val_loader):
            model = nn.DataParallel(Net())
            model.train()
            for x in loader:
                model(x).sum().backward()
            model.module.eval()
            for x in val_loader:
                model(x)
        """,
    "a part is switched": """
        def fit(model, loader, val_loader):
            model.train()
            for x in loader:
                model(x).sum().backward()
            model.encoder.eval()
            for x in val_loader:
                model(x)
        """,
    "the method of the class": """
        def fit(model, loader, val_loader):
            model.train()
            for x in loader:
                model(x).sum().backward()
            nn.Module.eval(model)
            for x in val_loader:
                model(x)
        """,
    "callbacks are given the trainer": """
        class Trainer:
            def fit(self, loader, val_loader):
                self.model.train()
                for x in loader:
                    self.model(x).sum().backward()
                self.callbacks.before_validation(self)
                for x in val_loader:
                    self.model(x)
        """,
    "a closure evaluates": """
        def main(loader, val_loader):
            model = Net()

            def evaluate():
                model.eval()
                for x in val_loader:
                    model(x)
                model.train()

            for epoch in range(3):
                for x in loader:
                    model(x).sum().backward()
                evaluate()
        """,
    "a frozen model in evaluation mode": """
        def fit(model, head, loader):
            model.eval()
            for epoch in range(3):
                for x, y in loader:
                    F.cross_entropy(head(model(x)), y).backward()
        """,
    "a momentum encoder": """
        def fit(model, momentum, loader):
            model.train()
            momentum.train()
            for x, y in loader:
                with torch.no_grad():
                    key = momentum(x)
                F.cross_entropy(model(x) @ key, y).backward()
        """,
    "test-time training": """
        def adapt(model, test_loader):
            model.train()
            for x in test_loader:
                model(x).sum().backward()
        """,
    "a unit test": """
        def test_shape(x):
            model = Net()
            model(x).sum().backward()
            with torch.no_grad():
                assert model(x).shape == x.shape
        """,
    "quantisation-aware training": """
        from torch.ao.quantization import prepare_qat

        def quantize(loader):
            model = prepare_qat(Net())
            for x, y in loader:
                F.cross_entropy(model(x), y).backward()
        """,
    "eval of another kind": """
        def table(frame):
            frame.eval("a + b")
            for x in frame.test: frame(x)
        """,
    "held-out data is measured after eval()": """
        def score(network, batches):
            return sum((network(x).argmax(-1) == y).sum().item() for x, y in batches)

        def fit(network, batches, validation):
            network.train()
            for x, y in batches:
                F.cross_entropy(network(x), y).backward()
            network.eval()
            print(score(network, validation))
        """,
    "the function with held-out data trains": """
        def refine(network, batches):
            for x, y in batches:
                loss = F.cross_entropy(network(x), y)
                loss.backward()
                print(loss.item())

        def fit(network, batches, validation):
            network.train()
            refine(network, batches)
            refine(network, validation)
        """,
    "a loss on held-out data that is trained on": """
        def loss_of(network, batch):
            return F.cross_entropy(network(batch[0]), batch[1])

        def meta_step(network, train_batch, test_batch):
            network.train()
            loss_of(network, train_batch).backward()
            loss_of(network, test_batch).backward()
        """,
    "a decorator switches": """
        from tools import in_eval_mode

        @in_eval_mode
        def validate(network, batches):
            return [network(x) for x in batches]

        def fit(network, batches, validation):
            network.train()
            for x in batches:
                network(x).sum().backward()
            validate(network, validation)
        """,
    "no mode is set, and training is elsewhere": """
        def test(net, test_loader):
            with torch.no_grad():
                return [net(x) for x in test_loader]

        def train(net, loader):
            for x in loader:
                net(x).sum().backward()
        """,
    "no mode is set here, and a function may set it": """
        from tools import before_validation

        def fit(net, batches, valid_batches):
            for x in batches:
                net(x).sum().backward()
            before_validation(net)
            for x in valid_batches:
                print(net(x))
        """,
    "a method called net": """
        class Trainer:
            def net(self, x):
                return x

            def fit(self, batches, valid_batches):
                for x in batches:
                    self.net(x).sum().backward()
                for x in valid_batches:
                    self.net(x)
        """,
    "saliency in evaluation": """
        def feature_importance(net, picture):
            net.eval()
            leaf = picture.detach().clone().requires_grad_(True)
            net(leaf).max().backward()
            return leaf.grad
        """,
    "adversarial training": """
        def attack(net, picture):
            net.train()
            leaf = picture.detach().clone().requires_grad_(True)
            net(leaf).max().backward()
            return picture + leaf.grad.sign()
        """,
    "ranges are calibrated in evaluation": """
        import quantizer

        def observe_ranges(net, calib_loader):
            net.eval()
            with torch.inference_mode():
                for x, _ in calib_loader:
                    net(x)
            return quantizer.freeze(net)
        """,
    "statistics of BatchNorm are calibrated in training": """
        import quantizer

        def calibrate_bn(net, loader):
            net.train()
            with torch.no_grad():
                for x, _ in loader:
                    net(x)
        """,
    "nothing is quantised": """
        def calibrate(net, loader):
            net.train()
            with torch.no_grad():
                for x, _ in loader:
                    net(x)
        """,
    "loaded weights are used after eval()": """
        model = Net()
        model.load_state_dict(torch.load("best.pt"))
        model.eval()
        with torch.no_grad():
            print(model(torch.ones(2)))
        """,
    "weights are loaded to be trained on": """
        def fit(loader):
            model = Net()
            model.load_state_dict(torch.load("last.pt"))
            for x, y in loader:
                F.cross_entropy(model(x), y).backward()
                with torch.no_grad():
                    print((model(x).argmax(-1) == y).sum())
        """,
    "a teacher takes the student's weights": """
        def fit(loader):
            student, teacher = Net(), Net()
            student = Net()
            teacher = Net()
            teacher.load_state_dict(student.state_dict())
            for x in loader:
                with torch.no_grad():
                    key = teacher(x)
                (student(x) * key).sum().backward()
        """,
    "two phases in their modes by argument": """
        def fit(model, loaders):
            for phase in ("train", "valid"):
                model.train(phase == "train")
                for x, y in loaders[phase]:
                    loss = F.cross_entropy(model(x), y)
                    if phase == "train":
                        loss.backward()
        """,
    "a loss has no mode": """
        def fit(model, loader, val_loader):
            criterion = nn.CrossEntropyLoss()
            for epoch in range(3):
                model.train()
                for x, y in loader:
                    criterion(model(x), y).backward()
                model.eval()
                with torch.no_grad():
                    for x, y in val_loader:
                        print(criterion(model(x), y))
        """,
    "functional dropout with the mode": """
        class Block(nn.Module):
            def forward(self, x, *more):
                x = F.dropout(x, 0.5, self.training)
                x = F.dropout(x, 0.5, training=self.training)
                x = F.dropout(x, *more)
                x = F.dropout(x, 0.0)
                if self.training:
                    x = F.dropout(x, 0.5)
                return F.scaled_dot_product_attention(x, x, x, dropout_p=self.p if self.training else 0.0)
        """,
    "always on by design": """
        class Prenet(nn.Module):
            def forward(self, x):
                return F.dropout(x, 0.5, training=True)

            def sample(self, x):
                return F.dropout(x, 0.5)
        """,
    "a function outside a module": """
        def augment(x):
            return F.dropout(x, 0.5)
        """,
}
