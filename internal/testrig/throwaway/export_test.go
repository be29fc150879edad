package throwaway

// KillBehind ends a server behind its back.
func KillBehind(s *Server) error {
	err := s.proc.OS().Signal(Kill)
	<-s.proc.Done()
	return err
}
