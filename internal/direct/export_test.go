package direct

// SetSetting gives a source another value for one of the settings that it
// connects with.
func (s *Source) SetSetting(name, value string) { s.settings[name] = value }

// Settings returns those that the server has not refused.
func (s *Source) Settings() map[string]string { return s.settings }
