"""The ClientApp: what leaves a node is the scheme's messages alone."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from gradwire.integrations.flower import SchemeMod, local_steps, scheme_network
from quickstart.task import accuracy, examples, network

app = ClientApp()


@app.train(mods=[SchemeMod(lambda context: context.run_config["scheme"])])
def train(message: Message, context: Context) -> Message:
    """Train on the node's own examples."""
    config = context.run_config
    images, labels = examples("train", int(context.node_config["partition-id"]), int(config["nodes"]))
    net = scheme_network(network(config["model"]), config["scheme"])
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    how = {"steps": 1} if config["single"] else {"epochs": config["local-epochs"]}
    loss = local_steps(net, images, labels, batch=config["batch-size"], lr=config["lr"], **how)
    metrics = MetricRecord({"train-loss": loss, "num-examples": len(images)})
    return Message(RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Accuracy on the node's own test examples."""
    config = context.run_config
    images, labels = examples("test", int(context.node_config["partition-id"]), int(config["nodes"]))
    net = scheme_network(network(config["model"]), config["scheme"])
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    metrics = MetricRecord({"accuracy": accuracy(net, images, labels), "num-examples": len(images)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
