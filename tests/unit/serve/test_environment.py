"""What the environment of the service says to Serve, where its defaults would not do."""

from serve.environment import ray_environment


def test_news_of_the_learner_may_be_larger_than_what_grpc_takes_by_itself() -> None:
    """They go from the learner to the replicas in Serve's messages; a large catalogue's state has tens of megabytes."""
    assert int(ray_environment(30.0)["RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"]) > 1 << 30
