"""stub"""
def evaluate_and_report(**kw): print("no report yet")
