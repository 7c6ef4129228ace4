"""A job file that is right, for tests to break."""

JOB = """\
name: slim
storage: /shared/runs
seed: 17
workers: {count: 2, gpus_each: 1}
data:
  train: {source: json, files: [corpus/*.jsonl.gz]}
  valid: {source: text, files: [/data/valid.txt]}
stages:
  - {name: parent, kind: load, model: owner/model}
  - {name: slim.v2, kind: prune, student: parent, target: {parameters: 95M}}
  - name: heal
    kind: distill
    student: slim.v2
    teacher: parent
    budget: {tokens: 1.5B}
    batch: {sequences: 12, microbatch_sequences: 3}
    losses:
      - {function: forward_kl, weight: 0.7}
      - {function: jsd, beta: 0.3}
    optimizer: {lr: 1e-4, schedule: wsd, warmup: 0.1, decay: 0.3}
    checkpoint: {every: 500 steps}
  - {name: score, kind: evaluate, model: heal, against: [parent], gate: {perplexity_ratio: {max: 1.25}}}
  - {name: out, kind: export, model: heal}
"""
