"""The KFP pipelines and everything that starts them: command line, local run, compilation, submission,
configs.
"""
