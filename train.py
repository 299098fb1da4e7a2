"""Train the attention-based user model: `python train.py experiment=demo`; every setting is an override."""

from recsys.commands.train import main

if __name__ == "__main__":
    main()
