# Hosts that are reached by sessions of the admin's own. The pool names them by addresses that lead nowhere, so that what works, works by a session.
# The PSSession is a real one, with PowerShell's remoting protocol and what it does to objects; its other end is a process of this machine.
Describe 'A host that is reached by an open session' {
    BeforeAll {
        . "$PSScriptRoot/Shared.ps1"
        . "$PSScriptRoot/Doubles.ps1"
        Import-Module $Module
        $world = Use-DoubleWorld (Join-Path $TestDrive 'world') -HostName hv1, hv2
        $guests = Start-DoubleGuest $world
        $folder = Join-Path $TestDrive 'office'
        $null = New-Item -ItemType Directory $folder
        Set-Content (Join-Path $folder 'web.vhdx') 'web'
        $port = Get-FreePort
        # One of two hosts to look at, and one of one host to work in: a move between hosts names the other one by its address, which leads nowhere here.
        foreach ($hosts in 1, 2) {
            $null = New-Item -ItemType Directory "$folder/$hosts"
            Set-Content "$folder/$hosts/pool.yaml" @"
pool: office$hosts
hypervisor: hyperv
hosts:
$((1..$hosts | ForEach-Object { "  - { name: hv$_, address: hv$_.invalid, memory: 1 GiB, storage: $folder/hv$_ }" }) -join "`n")
hyperv: { switch: LAN, credential: nobody }
services:
  - { name: WEB, most: 3, listen: "127.0.0.1:$port", port: 18080, isolation: shared, image: { disk: ../web.vhdx, memory: 256 MiB, specialize: cloudInit }, addresses: { range: 127.40.0.10-127.40.0.20, prefix: 24 }, health: { path: /, interval: 1s } }
balancer: { kind: haproxy, drain: 2s }
"@
        }
        $env:VMATRIX_POOL = "$folder/2/pool.yaml"
        # A session whose other end is the host: it runs the doubled modules as hv1 or hv2 does.
        function New-HostSession([string] $Name) {
            $runspace = [runspacefactory]::CreateOutOfProcessRunspace($null)
            $runspace.Open()
            $session = [System.Management.Automation.Runspaces.PSSession]::Create($runspace, 'Process', $null)
            $worldFolder, $modules = $world.Folder, $env:PSModulePath
            Invoke-Command -Session $session {
                $env:VMATRIX_DOUBLE_LOCAL = $using:Name
                $env:VMATRIX_DOUBLE_WORLD = $using:worldFolder
                $env:PSModulePath = $using:modules
            }
            $session
        }
    }

    AfterAll {
        Stop-DoublePool $folder $guests
        if ($sessions) { $sessions | ForEach-Object { $_.Runspace.Dispose() } }
    }

    It 'is not reached without one' {
        (Get-VMatrixHost -ErrorAction SilentlyContinue).Reachable | Should -Be $false, $false
    }

    It 'is reached by a CimSession, whatever the pool file says of credentials, until it is taken back' {
        New-CimSession -ComputerName hv1 | Connect-VMatrixHost
        Connect-VMatrixHost (New-CimSession -ComputerName hv2) -HostName hv2 -WhatIf
        (Get-VMatrixHost -ErrorAction SilentlyContinue | Sort-Object Name).Reachable | Should -Be $true, $false
        (Connect-VMatrixHost (New-CimSession -ComputerName hv2) hv2 -PassThru).Reachable | Should -BeTrue
        $other = $world.AddForeign('hv1', 'mail', 'a note')
        (Get-VMatrixServer -Foreign).MachineId | Should -Be "$other"
        Get-VMatrixHost | Disconnect-VMatrixHost
        (Get-VMatrixHost -ErrorAction SilentlyContinue).Reachable | Should -Be $false, $false
    }

    It 'is reached by a PSSession, and servers are made, moved and woken over it' {
        $sessions = 'hv1', 'hv2' | ForEach-Object { New-HostSession $_ }
        $script:sessions = $sessions
        Connect-VMatrixHost $sessions[0] hv1
        Connect-VMatrixHost $sessions[1] hv2
        (Get-VMatrixHost).Reachable | Should -Be $true, $true
        (Get-VMatrixServer -Foreign).Name | Should -Be 'mail'
        $pool = "$folder/1/pool.yaml"
        $server = New-VMatrixServer -Service WEB -Pool $pool
        $vm = Get-VM -ComputerName hv1 | Where-Object Name -EQ $server.Name
        $vm.Notes | Should -BeLike 'VMatrix:{*127.40.0.10*}'
        $awake = Move-VMatrixServer $server -Stage Matrix -Pool $pool -PassThru
        "$($awake.Power)", "$($awake.Health)", $awake.Address | Should -Be 'Running', 'Healthy', '127.40.0.10:18080'
        (Get-VMDvdDrive -VM (Get-VM -Id $vm.Id -ComputerName hv1)).Path | Should -BeLike "*$($server.Id).iso"
        # $null goes to the other end as nothing, and takes the seed out of the drive.
        (Move-VMatrixServer $server -Stage Nest -Pool $pool -PassThru).Power | Should -Be 'Saved'
        (Get-VMDvdDrive -VM (Get-VM -Id $vm.Id -ComputerName hv1)).Path | Should -BeNullOrEmpty
        Remove-VMatrixServer $server -Pool $pool -Force
        Remove-VMatrixServer $server.Id -Pool $pool -Purge -Force
        Get-VM -ComputerName hv1 | Where-Object Notes -Like 'VMatrix:*' | Should -BeNullOrEmpty
    }

    It 'tells the errors of the other end as they are told on the host' {
        $world.SetReadable('hv2', $false)
        (Get-VMatrixHost hv2 -ErrorAction SilentlyContinue).Problem | Should -BeLike '*Hyper-V Administrators*'
        $world.SetReadable('hv2', $true)
        (Get-VMatrixHost hv2).Problem | Should -BeNullOrEmpty
    }

    It 'refuses a session that cannot serve, and goes on as before' {
        foreach ($mode in 'NoLanguage', 'ConstrainedLanguage') {
            $restricted = New-HostSession hv1
            try {
                Invoke-Command -Session $restricted { $ExecutionContext.SessionState.LanguageMode = $using:mode }
                { Connect-VMatrixHost $restricted hv1 -ErrorAction Stop } | Should -Throw -ErrorId 'SessionRestricted,*' -Because $mode
            }
            finally { $restricted.Runspace.Dispose() }
        }
        $bare = New-HostSession hv1
        try {
            Invoke-Command -Session $bare { $env:PSModulePath = '' }
            { Connect-VMatrixHost $bare hv1 -ErrorAction Stop } | Should -Throw -ErrorId 'SessionRestricted,*'
        }
        finally { $bare.Runspace.Dispose() }
        (Get-VMatrixHost).Reachable | Should -Be $true, $true
    }

    It 'leaves nothing behind in the session' {
        Invoke-Command -Session $sessions[0] { Get-Command Resolve-Value, Invoke-Part -ErrorAction Ignore } | Should -BeNullOrEmpty
        Invoke-Command -Session $sessions[0] { Test-Path variable:state } | Should -BeFalse
    }

    It 'is not reached any more when its session is closed, and says what to do' {
        $sessions[0].Runspace.Close()
        $gone = Get-VMatrixHost hv1 -ErrorAction SilentlyContinue
        $gone.Reachable | Should -BeFalse
        $gone.Problem | Should -BeLike "*session*host 'hv1'*Connect-VMatrixHost*Disconnect-VMatrixHost*"
    }

    It 'refuses what is no session, and hosts that no session leads to' {
        { Connect-VMatrixHost 'hv1' -ErrorAction Stop } | Should -Throw -ErrorId 'SessionNotKnown,*'
        { Connect-VMatrixHost $sessions[1] -ErrorAction Stop } | Should -Throw -ErrorId 'HostNotFound,*'
        { Connect-VMatrixHost $sessions[1] hv1 -Pool (New-TestPool) -ErrorAction Stop } | Should -Throw -ErrorId 'DriverNotSupported,*'
    }
}
