"""The errors of data, rl and serve: one root, which commands catch. The room beside each class is where it is defined.

RecommenderError                       data
├── DataError                          data: data, or their declaration, cannot be used
│   ├── PartGone                       data.log: a file of archived days was rewritten or deleted while it was read
│   ├── NodeInUse                      data.archive: another process ingests rows of a node
│   ├── ObjectMissing                  data.archive: there is no object of that name
│   └── ObjectDamaged                  data.archive: an object is not what was written
├── UnreadableError                    data: a file is not what it should be; becomes a DataError with the file's name
├── FeatureError                       data: what was said of a context, an item or a user cannot be features
├── StoreError                         data.log: the log cannot be opened, or a statement failed
│   ├── StoreMissing                   data.log: there is no log where one is to be read
│   ├── StoreBusy                      data.log: too many records wait for their commit
│   └── StoreUnavailable               data.log: the database cannot answer now; nothing was written
│       ├── StoreLost                  data.log: it was deleted or replaced while it was open
│       ├── StoreDamaged               data.log: it is damaged
│       ├── StoreUnconfirmed           data.log: who was to commit did not answer: it did or not
│       ├── StoreOccupied              data.log: another process does what only one may do at a time
│       └── NotScrubbed                data.log: rows are deleted, their bytes may still be there
├── PolicyError                        rl.policy: a policy was asked for what it cannot give
│   └── UnlearnableError               rl.online: what a policy was given to learn would leave it broken
├── SnapshotError                      rl.online: a folder does not hold a fold's state
├── ProofError                         rl.provenance: to prove a fold without a user takes more than it may
├── ConformanceError                   rl.policy: a policy breaks a promise
├── ArtefactError                      rl.artefacts: a folder does not hold a policy that can be served
├── EvaluationError                    rl.evaluation: a log cannot be evaluated on
├── ReportError                        rl.gate: a report cannot be read, or its verdict does not follow from it
├── NetworkError                       rl.networks: a network is described, fed or stored wrongly
├── EnvironmentContractError           rl.simulators: an environment is not one that policies can act in
├── ActionError                        rl.simulators: an action is not in the action space
├── TrainingError                      rl.training: a training cannot begin or go on
├── UnknownKindError                   rl.training: there is no such kind of experiment
├── NoAnswerError                      rl.training: nobody answers at a tracking URI
├── RunError                           rl.continuous: a run cannot begin or go on
│   └── StepFailed                     rl.continuous: a step of a run did not come to its end
├── RegistryError                      rl: the registry of policies does not answer, or lacks what was asked for
├── CommandRefused                     serve.console: a command of the console runs already
├── RunsUnreadableError                serve.console: the tracking server does not tell its runs
├── Refused                            serve.contracts: an answer to the client, from its interface's table of errors
├── ArgumentsError                     serve.api: arguments are not learning settings
├── Incomplete                         serve.entities: some places have not forgotten a user yet
├── KeyRefused                         data.log: an API key cannot be made, rotated or revoked as asked
├── ABTestRefused                      serve.abtests: an A/B test cannot be started or changed as asked
│   └── UnknownABTest                  serve.abtests: there is no test of this name
└── TrafficError                       serve.traffic: a service did not answer simulated users as it should
    └── UnansweredError                serve.traffic: a request was given up

A message is what is wrong, where, and what would be right. Some are ValueErrors too: pydantic takes no other from a
validator, and Gymnasium's callers expect one. NoAnswerError is an OSError, like those of other network clients.
"""

from pydantic_core import ErrorDetails, ValidationError


class RecommenderError(Exception):
    """Root of the errors that say what is wrong with what was asked; all other exceptions are faults of the code."""


class DataError(RecommenderError):
    """Data, or a declaration of data, that cannot be used.

    The message is one line: what is wrong, where, and what would be right.
    """


class UnreadableError(RecommenderError):
    """A file that is not what it should be, said without its name: who opened it knows that."""


def reason(fault: ErrorDetails) -> str:
    """Return what pydantic found wrong, without the name of Python's exception that it puts before our own words."""
    return fault["msg"].removeprefix("Value error, ")


def first_fault(error: ValidationError) -> str:
    """Return the first thing that pydantic found wrong in one line: where, if it is about a part, and what."""
    fault = error.errors()[0]
    return ": ".join([*filter(None, [".".join(map(str, fault["loc"]))]), reason(fault)])
