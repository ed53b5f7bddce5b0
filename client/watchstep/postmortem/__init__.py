"""After the crash: what old logs say, judged by the rules that also watch live runs."""
