"""The experiment from end to end, through the project's own jobs: does recaptioning purify?"""
