"""A scheme's sessions over NVFlare: a controller serves rounds, executors answer. Each site has a number to learn."""

from secrets import randbits

import torch
from nvflare.apis.controller_spec import Task
from nvflare.apis.executor import Executor
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable

from gradwire.errors import GradwireError
from gradwire.rounds import ClientRound, server_half
from gradwire.schemes import Contribution, Layout, Round, parse
from gradwire.wire import SERVER, Message, Need, ServerSession, check_carrier, client

OFFERS = {Need.SERVER, Need.LOCAL_UPDATE, Need.WHOLE, Need.EQUAL_WEIGHTS}


class Rounds(Controller):
    def __init__(self, spec: str, rounds: int):
        super().__init__()
        self.spec, self.rounds = spec, rounds

    def start_controller(self, fl_ctx):
        self.scheme, self.model = parse(self.spec), {"w": torch.zeros(200, 50)}
        check_carrier(self.spec, self.scheme.needs, "this example", OFFERS)
        if self.scheme.key_exchange is not None:
            raise GradwireError(f"scheme {self.spec!r} exchanges keys before its first round; this example does not")

    def control_flow(self, abort_signal, fl_ctx):
        parties = {each.name: client(i) for i, each in enumerate(fl_ctx.get_engine().get_clients())}
        public = self.scheme.public_state(layout := Layout.of(self.model))
        for index in range(self.rounds):
            round = Round(index, tuple(parties.values()), 0, layout, start=self.model)
            session = ServerSession(server_half(self.scheme, public, round, {}), round.clients, index)
            began = Message(SERVER, "", index, "model", {f"{n}/": t for n, t in self.model.items()} | public)
            data = Shareable({"spec": self.spec, "parties": parties, "began": bytes(began.encode())})
            while sent := self.answers(data, fl_ctx, abort_signal):
                for name, message in sent.items():
                    session.receive(parties[name], message)
                ((reply, _),) = session.close()
                data = Shareable({"reply": bytes(reply.encode())})
            public = (outcome := session.finish()).public
            self.model = {name: old - outcome.aggregate[name] for name, old in self.model.items()}
            up, mean = session.transcript.bytes_up() // len(parties), self.model["w"].mean()
            self.log_info(fl_ctx, f"round {index}: mean {mean:.4f}, {up} bytes up a site")

    def answers(self, data, fl_ctx, abort_signal):
        """What each site answers to a task, site → bytes; nothing where it has heard the last reply."""
        self.broadcast_and_wait(task := Task("round", data), fl_ctx, min_responses=0, abort_signal=abort_signal)
        results = {each.client.name: each.result for each in task.client_tasks}
        return {name: result["message"] for name, result in results.items() if "message" in result}

    stop_controller = process_result_of_unknown_task = lambda *_: None


class Site(Executor):
    private = None

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        if "reply" in shareable:
            sending = self.session.session.answer(Message.decode(shareable["reply"]))
        else:
            scheme, began = parse(shareable["spec"]), Message.decode(shareable["began"])
            start = {name[:-1]: t for name, t in began.tensors.items() if name.endswith("/")}
            public = {name: t for name, t in began.tensors.items() if not name.endswith("/")}
            party, layout = shareable["parties"][fl_ctx.get_identity_name()], Layout.of(start)
            round = Round(began.round, tuple(shareable["parties"].values()), 0, layout, start=start)
            own = self.private or scheme.private_state(layout, randbits(63))
            update = {name: (old - float(party[-1])) / 2 for name, old in start.items()}
            self.session = ClientRound(scheme, party, Contribution(update, own), public, round)
            sending = self.session.session.begin()
        self.private = self.session.settled
        return Shareable() if sending is None else Shareable({"message": bytes(sending.encode())})
