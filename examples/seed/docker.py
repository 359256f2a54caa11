"""Register the diamond with containers: each rule runs the image `worker`, which triggers."""

from register import register_diamond

# An empty `cmd`: the image's own command.
ACTIVITY = {"cmd": "", "task_type": "docker", "image": "worker"}

if __name__ == "__main__":
    register_diamond(ACTIVITY)
